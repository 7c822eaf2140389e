//! Who wakes a shard that sleeps or naps.

use super::*;

#[test]
fn work_of_another_task_gets_a_parked_pump_going() {
    run_files(|ring| async move {
        let file = tempfile::tempfile().unwrap();
        for index in 0..200 {
            // Long enough for the pump to be asleep, every other time.
            if index % 2 == 0 {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            let (result, _) = ring
                .write(file.as_raw_fd(), index, vec![1], SyncLevel::None)
                .await;
            result.unwrap();
        }
        assert!(ring.probe().parks.get() > 50, "the pump never slept");
        assert_eq!(ring.probe().writes.get(), 200);
    });
}

#[test]
fn another_thread_wakes_a_parked_shard() {
    run(options(), |ring| async move {
        let waker = ring.waker();
        let flag = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let flag = Arc::clone(&flag);
            move || {
                thread::sleep(Duration::from_millis(30));
                flag.store(true, Ordering::Relaxed);
                waker.wake();
            }
        });
        while !flag.load(Ordering::Relaxed) {
            ring.turn(&mut Vec::new(), 16).unwrap();
            ring.park().await;
        }
        thread.join().unwrap();
        // It slept instead of spinning.
        assert!(ring.probe().parks.get() < 10);
    });
}

#[test]
fn the_bell_ends_a_nap() {
    // Far beyond what any machine takes to wake: only the bell can end it so soon.
    const LONG: Duration = Duration::from_secs(40);
    run(options(), |ring| async move {
        // Again and again: the bell is watched once, and never read.
        for _ in 0..5 {
            let rung = Arc::new(AtomicBool::new(false));
            let thread = thread::spawn({
                let (rung, waker) = (Arc::clone(&rung), ring.waker());
                move || {
                    thread::sleep(Duration::from_millis(10));
                    rung.store(true, Ordering::Relaxed);
                    waker.wake();
                }
            });
            let started = Instant::now();
            while !rung.load(Ordering::Relaxed) {
                assert!(ring.block(1, LONG), "it was woken");
                ring.turn(&mut Vec::new(), 16).unwrap();
            }
            assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
            thread.join().unwrap();
        }
        // A wake-up that came before is not slept over.
        ring.waker().wake();
        let started = Instant::now();
        assert!(ring.block(1, LONG));
        assert!(started.elapsed() < LONG / 2);
        // Without one, a nap ends by itself, and there is nothing to do. (On a busy machine there
        // may be no nap at first.)
        let naps = ring.probe().naps.get();
        ring.turn(&mut Vec::new(), 16).unwrap();
        while ring.nap(true).await {
            ring.turn(&mut Vec::new(), 16).unwrap();
        }
        assert!(ring.probe().naps.get() > naps);
    });
}

/// Threads send numbered pings and wait for each to be seen before the next: one lost wake-up
/// and the test hangs.
fn ping(options: Options, threads: u64, rounds: u64, naps: bool) {
    run(options, move |ring| async move {
        let sent: Vec<_> = (0..threads).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let seen: Vec<_> = (0..threads).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let pingers: Vec<_> = sent
            .iter()
            .zip(&seen)
            .map(|(sent, seen)| {
                let (sent, seen, waker) = (Arc::clone(sent), Arc::clone(seen), ring.waker());
                thread::spawn(move || {
                    for round in 1..=rounds {
                        sent.store(round, Ordering::Relaxed);
                        waker.wake();
                        // Now and then give the shard time to fall asleep.
                        if round % 64 == 0 {
                            thread::sleep(Duration::from_micros(100));
                        }
                        while seen.load(Ordering::Relaxed) < round {
                            std::hint::spin_loop();
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut done = false;
        while !done {
            ring.turn(&mut Vec::new(), 16).unwrap();
            done = true;
            for (sent, seen) in sent.iter().zip(&seen) {
                let value = sent.load(Ordering::Relaxed);
                seen.store(value, Ordering::Relaxed);
                done &= value == rounds;
            }
            if done || naps && ring.nap(true).await {
                continue;
            }
            ring.park().await;
        }
        for pinger in pingers {
            pinger.join().unwrap();
        }
    });
}

#[test]
fn no_ping_of_another_thread_is_lost() {
    ping(options(), 1, 50_000, false);
}

#[test]
fn no_ping_is_lost_to_a_nap() {
    ping(options(), 1, 20_000, true);
    ping(options(), 3, 5_000, true);
}

#[test]
fn no_ping_of_several_threads_is_lost_while_polling() {
    let poll = Duration::from_micros(5);
    ping(Options { poll, ..options() }, 3, 20_000, false);
}

#[test]
fn no_completion_is_lost_to_sleep() {
    run(options(), |ring| async move {
        // One byte to and fro: each side waits for the other, so one lost signal hangs.
        let (mut client, server) = UnixStream::pair().unwrap();
        let rounds = 20_000u64;
        ring.recv(CLIENT, server.as_raw_fd());
        let thread = thread::spawn(move || {
            let mut byte = [0];
            for round in 0..rounds {
                client.write_all(&[round as u8]).unwrap();
                client.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [round as u8]);
            }
        });
        let done = RefCell::new(0);
        while *done.borrow() < rounds {
            match next(&ring).await {
                Completion::Received { result, more, .. } => {
                    assert!(more);
                    ring.send(CLIENT, server.as_raw_fd(), result.unwrap().to_vec());
                }
                Completion::Sent { result, .. } => {
                    result.unwrap();
                    *done.borrow_mut() += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        thread.join().unwrap();
        // One sleep a round: a signal left over would end the next one at once.
        let parks = ring.probe().parks.get();
        assert!(parks <= rounds * 5 / 4, "{parks} sleeps in {rounds} rounds");
    });
}
