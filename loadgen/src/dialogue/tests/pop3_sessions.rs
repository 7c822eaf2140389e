//! POP3: reading, and the verifier's reading back.

use super::*;

fn read_mail(check: Option<u32>, window: u32, delete: bool) -> (Pop3Work, Receiver<Interval>) {
    let (recorder, intervals) = recorder();
    let options = pop3::Options {
        user_pattern: "{local}".to_owned(),
        password: "pw".to_owned(),
        login: pop3::Login::User,
        stls: false,
        list: check.is_none(),
        uidl: false,
        retrieve: check.is_none().then_some(2),
        delete,
        window,
        check,
    };
    let pool = Arc::new(Pool::generate("u", 1, &["x"]).expect("a pool"));
    let schedule = Arc::new(Schedule::new(Some(1), None));
    (
        Pop3Work::new(Arc::new(options), Pace::new(schedule, 0), pool, recorder),
        intervals,
    )
}

#[test]
fn a_pop3_session() {
    for piece in [1, 3, usize::MAX] {
        let (mut work, intervals) = read_mail(None, 1, true);
        let now = Instant::now();
        let mut session = Pop3::open(&mut work, now).expect("work to do");
        let script = "S: +OK hi
            C: USER u0
            S: +OK
            C: PASS pw
            S: +OK
            C: STAT
            S: +OK 3 900
            C: LIST
            S: +OK|1 300|2 300|3 300|.
            C: RETR 1
            S: +OK 300|A: b||..|.
            C: RETR 2
            S: +OK 300|A: b||-ERR no error, this|.
            C: DELE 1
            S: +OK
            C: DELE 2
            S: +OK
            C: QUIT
            S: +OK";
        assert_eq!(play(&mut session, &mut work, piece, script), Next::Close);
        session.ended(&mut work, End::Asked, now);
        work.recorder().finish();
        let mut sum = Interval::default();
        intervals.try_iter().for_each(|interval| sum.add(interval));
        assert_eq!((sum.counts.done, sum.counts.items), (1, 2));
        assert_eq!(
            sum.histogram(Verb::Retr).map(hdrhistogram::Histogram::len),
            Some(2)
        );
        assert!(sum.faults.is_empty());
    }
}

/// A message as POP3 sends it.
fn retr(sequence: u64) -> String {
    let mut wire = Vec::new();
    let id = MessageId { run: 1, sequence };
    let mut builder = builder(Framing::Dots, 9);
    let draft = builder.draw();
    builder.build(draft, id, &mut wire);
    let text = String::from_utf8(wire).expect("ASCII");
    format!("S: +OK|{}", text.trim_end().replace("\r\n", "|"))
}

#[test]
fn the_verifier_reads_whole_mailboxes_and_again_if_broken() {
    for piece in [1, 5, usize::MAX] {
        let (mut work, _intervals) = read_mail(Some(2), 10, false);
        let now = Instant::now();
        let login = "S: +OK hi\nC: CAPA\nS: -ERR what?\nS: +OK\nS: +OK\nS: +OK 2 1200";
        let mut broken = Pop3::open(&mut work, now).expect("work to do");
        let script = format!("{login}\n{}", retr(5));
        assert_eq!(play(&mut broken, &mut work, piece, &script), Next::Wait);
        broken.ended(&mut work, End::Fault(Fault::Reset, "reset"), now);
        assert!(work.found.is_empty(), "half a mailbox does not count");
        let mut whole = Pop3::open(&mut work, now).expect("the same again");
        let script = format!("{login}\n{}\n{}\nS: +OK bye", retr(5), retr(6));
        assert_eq!(play(&mut whole, &mut work, piece, &script), Next::Close);
        whole.ended(&mut work, End::Asked, now);
        let verdicts: Vec<Verdict> = work.found.iter().map(|found| found.verdict).collect();
        let wanted = [5, 6].map(|sequence| Verdict::Whole(MessageId { run: 1, sequence }));
        assert_eq!(verdicts, wanted);
        assert_eq!((work.mailboxes_read, work.unread.len()), (1, 0));
        assert!(Pop3::open(&mut work, now).is_none());
    }
}

#[test]
fn a_mailbox_that_cannot_be_opened_is_unread() {
    let (mut work, intervals) = read_mail(Some(1), 10, false);
    let now = Instant::now();
    let mut session = Pop3::open(&mut work, now).expect("work to do");
    let script = "S: +OK hi\nS: -ERR\nC: CAPA|USER u0\nS: +OK\nC: PASS pw\nS: -ERR [AUTH] no\nC: QUIT\nS: +OK";
    assert_eq!(play(&mut session, &mut work, 1, script), Next::Close);
    session.ended(&mut work, End::Asked, now);
    assert_eq!((work.mailboxes_read, work.unread.clone()), (0, vec![0]));
    work.recorder().finish();
    let interval = intervals.recv().expect("shipped");
    let (key, fault) = interval.faults.iter().next().expect("a fault");
    assert_eq!(
        (key.verb, fault.sample.as_str()),
        (Verb::Pass, "-ERR [AUTH] no")
    );
}
