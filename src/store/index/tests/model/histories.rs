//! Histories, played in every order that a log can have.

use super::*;

#[test]
fn in_the_order_of_the_log_with_seals_and_reopenings() {
    for seed in 0..60 {
        let random = &mut Random::new(seed);
        let mut world = history(random, 0);
        let mut index = Index::new();
        let mut applied = 0;
        let mut sealing: Option<(SealWriter, Vec<u8>, usize)> = None;
        let mut sealed: Option<(Vec<u8>, usize)> = None;
        for step in 0..250 {
            let context = format!("seed {seed}, step {step}");
            world.step(random);
            while applied < world.log.len() {
                apply(&mut index, &world.log[applied]);
                applied += 1;
            }
            if applied > 0 && random.one_in(4) {
                // A record is repeated, as replay from an earlier place would.
                let place = applied - 1 - random.index(applied.min(40));
                apply(&mut index, &world.log[place]);
            }
            if random.one_in(10) {
                index.release_unnamed(world.release());
            }
            if random.one_in(12) {
                let writer = index.begin_seal(IDENTITY, world.seq, (applied as u64, 3));
                sealing = Some((writer, Vec::new(), applied));
            }
            if let Some((mut writer, mut bytes, cut)) = sealing.take() {
                match random.index(6) {
                    0 => index.abandon_seal(),
                    1 | 2 => {
                        while let Some(piece) = writer.next_piece() {
                            assert!(piece.len() <= 256 * 1024);
                            bytes.extend(piece);
                        }
                        index.finish_seal(Rc::new(bytes.clone())).expect(&context);
                        sealed = Some((bytes, cut));
                    }
                    _ => {
                        if random.one_in(2) {
                            bytes.extend(writer.next_piece().unwrap_or_default());
                        }
                        sealing = Some((writer, bytes, cut));
                    }
                }
            }
            if random.one_in(25) {
                sealing = None;
                let from = match &sealed {
                    Some((bytes, cut)) => {
                        let (opened, _, position) =
                            Index::open(Rc::new(bytes.clone()), IDENTITY).expect(&context);
                        assert_eq!(position, (*cut as u64, 3));
                        index = opened;
                        // Replay may begin too early.
                        cut - random.index(*cut.min(&20) + 1)
                    }
                    None => {
                        index = Index::new();
                        0
                    }
                };
                for record in &world.log[from..] {
                    apply(&mut index, record);
                }
                index.release_unnamed(world.released);
            }
            if random.one_in(8) {
                world.check(&index, &context);
            }
        }
        world.check(&index, &format!("seed {seed}"));
    }
}

#[test]
fn in_any_order() {
    for seed in 1000..1200 {
        let random = &mut Random::new(seed);
        let mut world = history(random, 120);
        world.streams.clear();
        let below = world.release();
        let mut log = world.log.clone();
        shuffle(random, &mut log);
        let mut index = Index::new();
        for record in &log {
            apply(&mut index, record);
        }
        index.release_unnamed(below);
        world.check(&index, &format!("seed {seed}"));
    }
}

#[test]
fn over_a_sealed_file_in_any_order() {
    for seed in 2000..2200 {
        let context = format!("seed {seed}");
        let random = &mut Random::new(seed);
        let mut world = history(random, 80);
        let mut index = Index::new();
        for record in &world.log {
            apply(&mut index, record);
        }
        let cut = world.log.len();
        let bytes = seal(&mut index, world.seq);
        index = Index::open(Rc::new(bytes), IDENTITY).expect(&context).0;
        for _ in 0..80 {
            world.step(random);
        }
        world.streams.clear();
        let below = world.release();
        let mut log = world.log[cut..].to_vec();
        // Some that the file covers come again.
        for _ in 0..20 {
            log.push(world.log[random.index(cut)].clone());
        }
        shuffle(random, &mut log);
        let half = log.len() / 2;
        for record in &log[..half] {
            apply(&mut index, record);
        }
        if random.one_in(2) {
            // The layers above the file are two for a while.
            let _writer = index.begin_seal(IDENTITY, 0, (0, 0));
            for record in &log[half..] {
                apply(&mut index, record);
            }
        } else {
            for record in &log[half..] {
                apply(&mut index, record);
            }
        }
        index.release_unnamed(below);
        world.check(&index, &context);
        index.abandon_seal();
        world.check(&index, &context);
    }
}
