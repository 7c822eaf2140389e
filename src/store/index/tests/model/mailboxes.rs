//! Mailboxes of the model: what is done to them, and what they must show.

use super::*;

impl World {
    pub(super) fn all_boxes(&self) -> Vec<(u64, MailboxId)> {
        let boxes = self
            .accounts
            .iter()
            .flat_map(|(number, account)| account.boxes.keys().map(|id| (*number, *id)));
        boxes.collect()
    }

    pub(super) fn some_box(&self, random: &mut Random) -> Option<(u64, MailboxId)> {
        let boxes = self.all_boxes();
        (!boxes.is_empty()).then(|| boxes[random.index(boxes.len())])
    }

    pub(super) fn own(&mut self, (number, id): (u64, MailboxId)) -> &mut ModelBox {
        let account = self.accounts.get_mut(&number).expect("it is there");
        account.boxes.get_mut(&id).expect("it is there")
    }

    pub(super) fn append(
        &mut self,
        random: &mut Random,
        number: u64,
        id: MailboxId,
        body_seq: Sequence,
    ) {
        let uid = self.own((number, id)).uid_next;
        let is_plain = random.one_in(2);
        let (flags, bits) = match is_plain {
            true => (Flags::NONE, 0),
            false => (Flags(random.below(32) as u8), random.below(16) as u8),
        };
        let mut new = Arrival {
            uid,
            body_seq,
            bytes: random.below(5000),
            saved_ms: 0,
            flags,
            words: bits,
        };
        // Its date follows from its number, which comes with the record.
        let place = self.write(random, Record::Append(number, id, new));
        let seq = self.log[place].0;
        new.saved_ms = seq * 10 + if is_plain { 0 } else { random.below(2) };
        self.log[place].2 = Record::Append(number, id, new);
        let own = self.own((number, id));
        own.uid_next = uid + 1;
        own.modseq = seq;
        own.messages.insert(uid, place);
        own.marks.insert(uid, (seq, None, flags, bits));
    }

    /// Sets flags of some messages, of which not all are there.
    pub(super) fn flag(&mut self, random: &mut Random) {
        let Some((number, id)) = self.some_box(random) else {
            return;
        };
        let uids: Vec<Uid> = self.own((number, id)).messages.keys().copied().collect();
        let mut bits = Vec::new();
        let mut keywords: Vec<&str> = Vec::new();
        let mut marks = Vec::new();
        for uid in uids {
            if !random.one_in(3) {
                continue;
            }
            let own = random.below(16) as u8;
            let mut mask = 0;
            for word in words(own) {
                let place = keywords.iter().position(|known| *known == word);
                let place = place.unwrap_or_else(|| {
                    keywords.push(word);
                    keywords.len() - 1
                });
                mask |= 1 << place;
            }
            bits.push(own);
            marks.push(NewMark {
                uid,
                flags: Flags(random.below(32) as u8),
                keywords: mask,
            });
        }
        if marks.is_empty() {
            return;
        }
        let place = self.write(random, Record::Flags(number, id, keywords, marks.clone()));
        let seq = self.log[place].0;
        let own = self.own((number, id));
        own.modseq = seq;
        for (mark, bits) in marks.into_iter().zip(bits) {
            own.marks
                .insert(mark.uid, (seq, Some(place), mark.flags, bits));
        }
    }

    /// Copies or moves messages within an account: their bodies get another name.
    pub(super) fn copy(&mut self, random: &mut Random) {
        let Some((number, from)) = self.some_box(random) else {
            return;
        };
        let boxes: Vec<MailboxId> = self.accounts[&number].boxes.keys().copied().collect();
        let to = boxes[random.index(boxes.len())];
        let messages: Vec<(Uid, usize)> = {
            let own = self.own((number, from));
            own.messages
                .iter()
                .map(|(uid, place)| (*uid, *place))
                .collect()
        };
        let mut copied = Vec::new();
        for (uid, place) in messages {
            if random.one_in(3)
                && let Record::Append(_, _, Arrival { body_seq, .. }) = self.log[place].2
            {
                self.append(random, number, to, body_seq);
                copied.push(uid);
            }
        }
        if random.one_in(2) && !copied.is_empty() {
            self.expunge(random, (number, from), copied);
        }
    }

    pub(super) fn expunge(
        &mut self,
        random: &mut Random,
        (number, id): (u64, MailboxId),
        uids: Vec<Uid>,
    ) {
        let now_ms = self.seq * 10;
        let place = self.write(random, Record::Expunge(number, id, uids.clone(), now_ms));
        let seq = self.log[place].0;
        let own = self.own((number, id));
        own.modseq = seq;
        for uid in uids {
            own.messages.remove(&uid);
            own.marks.remove(&uid);
            own.vanished.insert(uid, seq);
        }
        self.drop_caches();
    }

    pub(super) fn named_bodies(&self) -> BTreeSet<Sequence> {
        let mut named = BTreeSet::new();
        for own in self
            .accounts
            .values()
            .flat_map(|account| account.boxes.values())
        {
            for place in own.messages.values() {
                if let Record::Append(_, _, new) = self.log[*place].2 {
                    named.insert(new.body_seq);
                }
            }
        }
        named
    }

    /// What is kept beside a body goes with it.
    pub(super) fn drop_caches(&mut self) {
        let named = self.named_bodies();
        self.caches.retain(|body_seq, _| named.contains(body_seq));
    }

    /// Everything that can be asked of a mailbox; returns the bytes of its messages.
    pub(super) fn check_box(
        &self,
        index: &Index,
        (own, id): (&Address, MailboxId),
        model: &ModelBox,
        use_bytes: &mut dyn FnMut(usize, u64),
        context: &str,
    ) -> u64 {
        let context = &format!("{context}: {own} {id}");
        let names = index.keywords(own, id);
        assert_eq!(index.keyword_count(own, id), names.len());
        let mask = |bits: u8| {
            let place = |word: &str| names.iter().position(|own| **own == *word);
            let places = words(bits)
                .into_iter()
                .map(|word| place(word).expect("it is named"));
            places.fold(0u64, |all, place| all | 1 << place)
        };
        if let Some(put) = model.put {
            use_bytes(put, 160);
            let Record::PutBox(_, _, name) = &self.log[put].2 else {
                panic!("no mailbox");
            };
            assert_eq!(index.find_mailbox(own, name), Some(id), "{context}");
        }
        if let Some(reserve) = model.reserve {
            use_bytes(reserve, 96);
        }
        let (mut bytes, mut unseen, mut deleted) = (0, 0, 0);
        let mut expected = Vec::new();
        for (uid, place) in &model.messages {
            let (seq, _, Record::Append(_, _, new)) = self.log[*place] else {
                panic!("no append");
            };
            let (modseq, flags_place, flags, bits) = model.marks[uid];
            if let Some(place) = flags_place {
                let Record::Flags(_, _, _, marks) = &self.log[place].2 else {
                    panic!("no flags");
                };
                let moved = self.moved_marks.get(&place);
                let share = *moved.unwrap_or(&marks.len()) as u32;
                use_bytes(place, self.location(place).bytes.div_ceil(share).into());
            }
            let info = MessageInfo {
                uid: *uid,
                modseq,
                bytes: new.bytes,
                date_ms: seq * 10,
                saved_ms: new.saved_ms,
                flags,
                keywords: mask(bits),
                body_seq: new.body_seq,
            };
            let found = Found {
                info,
                body_seq: new.body_seq,
                location: self.location(self.bodies[&new.body_seq]),
            };
            assert_eq!(index.find(own, id, *uid), Some(found), "{context}");
            expected.push(info);
            bytes += new.bytes;
            unseen += u32::from(!flags.has(Flags::SEEN));
            deleted += u32::from(flags.has(Flags::DELETED));
            use_bytes(*place, 128);
        }
        for uid in 0..model.uid_next + 2 {
            if !model.messages.contains_key(&uid) {
                assert_eq!(index.find(own, id, uid), None, "{context}: {uid}");
            }
        }
        assert_eq!(
            index.messages_in(own, id).as_ref(),
            Some(&expected),
            "{context}"
        );
        let runs = index.runs(own, id);
        let uids: Vec<Uid> = runs.iter().flat_map(|run| run.first..=run.last).collect();
        let there: Vec<Uid> = model.messages.keys().copied().collect();
        assert_eq!(uids, there, "{context}");
        assert!(runs.windows(2).all(|two| two[0].last + 1 < two[1].first));
        let name = String::new();
        let info = index
            .mailbox_info(own, id, name.clone())
            .expect("it is there");
        let wanted = MailboxInfo {
            id,
            name,
            special_use: (id != INBOX).then_some(SpecialUse::Trash),
            validity: model.validity,
            object_id: info.object_id,
            highest_modseq: model.modseq.max(1),
            uid_next: model.uid_next,
            exists: expected.len() as u32,
            unseen,
            deleted,
            bytes,
        };
        assert_eq!(info, wanted, "{context}");
        for since in [0, self.seq / 2, self.seq.saturating_sub(9), self.seq] {
            let mut changed = expected.clone();
            changed.retain(|info| info.modseq > since);
            // Where a bound is set, all of them or nothing.
            match index.changed_since(own, id, since, 5) {
                Some(Some(few)) => assert_eq!(few, changed, "{context}"),
                few => assert_eq!(few, Some(None), "{context}"),
            }
            let is_bounded = index.changed_since(own, id, since, changed.len().wrapping_sub(1));
            assert!(changed.is_empty() || is_bounded == Some(None), "{context}");
            assert_eq!(
                index.changed_since(own, id, since, usize::MAX),
                Some(Some(changed)),
                "{context}"
            );
            let gone = index.vanished_since(own, id, since).expect("it is there");
            let gone: Vec<Uid> = gone.iter().flat_map(|run| run.first..=run.last).collect();
            let told = |uid: &Uid| gone.binary_search(uid).is_ok();
            let mut wanted = model.vanished.iter().filter(|(_, seq)| **seq > since);
            assert!(wanted.all(|(uid, _)| told(uid)), "{context}");
            assert!(
                !there.iter().any(told),
                "{context}: since {since}, {there:?} and {gone:?}"
            );
        }
        bytes
    }
}
