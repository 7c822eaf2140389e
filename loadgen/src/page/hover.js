const tip = document.getElementById("tip");
for (const chart of document.querySelectorAll("svg[data-hover]")) {
  const { top, bottom, stops } = JSON.parse(chart.dataset.hover);
  if (!stops.length) continue;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  chart.append(cursor);
  const hide = () => { tip.style.display = "none"; cursor.setAttribute("d", ""); };
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const nearest = stops.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    cursor.setAttribute("d", `M${nearest[0]} ${top}V${bottom}`);
    tip.textContent = nearest[1];
    tip.style.display = "block";
    const right = window.scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(event.pageX + 14, right)) + "px";
    tip.style.top = event.pageY + 16 + "px";
  });
}
