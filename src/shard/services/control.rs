//! The control socket: an operator's request, done by shard 0, one at a time.
//!
//! One at a time, because a request is checked first and done then, and what was checked must
//! still hold. Operators do not queue by the thousand; clients of the mail do not come here.

use std::rc::Rc;

use super::super::Shard;
use super::super::backend::Shards;
use super::super::conn::ConnKey;
use super::super::session::AnyAnswer;
use super::Asked;
use crate::admin::{Reply, Request, execute as run};

/// Does what is asked at shard 0, wherever the connection is.
pub(super) fn execute(shard: &Rc<Shard>, key: ConnKey, request: Request) -> Asked {
    let shard = Rc::clone(shard);
    super::super::spawn(async move {
        let reply: Reply = shard
            .mesh
            .call(&shard, 0, async move |keeper| {
                let _turn = keeper.control.acquire().await;
                run(&Shards(Rc::clone(&keeper)), request).await
            })
            .await;
        shard.answer(key, AnyAnswer::Control(reply));
    });
    Asked::Later
}
