//! Commands on domains, aliases, the postmaster, and those that ask one thing.

use std::io::Write as _;

use super::office::{Office, unexpected};
use super::{Failure, complain};
use crate::admin::{Reply, Request};

/// Says what a reply without content has to say; notes go to stderr.
fn noted(reply: Reply) -> Result<(), Failure> {
    let Reply::Done { notes } = reply else {
        return Err(unexpected());
    };
    for note in notes {
        complain(&note);
    }
    Ok(())
}

pub(super) async fn domain_add(office: &mut Office, domain: String) -> Result<(), Failure> {
    noted(office.ask(Request::DomainAdd { domain }).await?)
}

pub(super) async fn domain_remove(office: &mut Office, domain: String) -> Result<(), Failure> {
    noted(office.ask(Request::DomainRemove { domain }).await?)
}

pub(super) async fn domain_list(office: &mut Office) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let Reply::Domains { domains, more } = office.ask(Request::DomainList { after }).await?
        else {
            return Err(unexpected());
        };
        let mut out = std::io::stdout().lock();
        for entry in &domains {
            write!(out, "{}", entry.domain)?;
            if let (shown, Ok(())) = idna::domain_to_unicode(&entry.domain)
                && shown != entry.domain
            {
                write!(out, "  {shown}")?;
            }
            if entry.configured {
                write!(out, "  (from --domain)")?;
            }
            if let Some(target) = &entry.catch_all {
                write!(out, "  catch-all {target}")?;
            }
            writeln!(out)?;
        }
        after = domains.last().map(|entry| entry.domain.clone());
        if !more || after.is_none() {
            return Ok(());
        }
    }
}

/// This domain is served now.
pub(super) async fn is_served(office: &mut Office, domain: &str) -> Result<bool, Failure> {
    let mut after = None;
    loop {
        let Reply::Domains { domains, more } = office.ask(Request::DomainList { after }).await?
        else {
            return Err(unexpected());
        };
        if domains.iter().any(|entry| entry.domain == domain) {
            return Ok(true);
        }
        after = domains.last().map(|entry| entry.domain.clone());
        if !more || after.is_none() {
            return Ok(false);
        }
    }
}

pub(super) async fn alias_add(
    office: &mut Office,
    address: &str,
    targets: &[String],
) -> Result<(), Failure> {
    let request = Request::AliasAdd {
        address: address.to_owned(),
        targets: targets.to_vec(),
    };
    noted(office.ask(request).await?)
}

pub(super) async fn alias_remove(office: &mut Office, address: &str) -> Result<(), Failure> {
    let address = address.to_owned();
    noted(office.ask(Request::AliasRemove { address }).await?)
}

pub(super) async fn alias_list(office: &mut Office, domain: Option<String>) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let request = Request::AliasList {
            domain: domain.clone(),
            after,
        };
        let Reply::Aliases { aliases, more } = office.ask(request).await? else {
            return Err(unexpected());
        };
        let mut out = std::io::stdout().lock();
        for entry in &aliases {
            writeln!(out, "{}: {}", entry.address, entry.targets.join(", "))?;
        }
        after = aliases.last().map(|entry| entry.address.clone());
        if !more || after.is_none() {
            return Ok(());
        }
    }
}

pub(super) async fn catch_all_set(
    office: &mut Office,
    domain: String,
    address: &str,
) -> Result<(), Failure> {
    let target = address.to_owned();
    noted(office.ask(Request::CatchAllSet { domain, target }).await?)
}

pub(super) async fn catch_all_clear(office: &mut Office, domain: String) -> Result<(), Failure> {
    noted(office.ask(Request::CatchAllClear { domain }).await?)
}

pub(super) async fn postmaster(
    office: &mut Office,
    address: Option<String>,
) -> Result<(), Failure> {
    if let Some(address) = address {
        return noted(office.ask(Request::PostmasterSet { address }).await?);
    }
    match office.ask(Request::PostmasterShow).await? {
        Reply::Postmaster {
            address: Some(address),
        } => Ok(writeln!(std::io::stdout(), "{address}")?),
        Reply::Postmaster { address: None } => Err(Failure::Failed(
            "there is no postmaster; 'ringpost postmaster ADDRESS' names an account".to_owned(),
        )),
        _ => Err(unexpected()),
    }
}

pub(super) async fn hashdir(office: &mut Office, address: &str) -> Result<(), Failure> {
    let address = address.to_owned();
    let reply = office
        .ask(Request::HashDir {
            address: address.clone(),
        })
        .await?;
    let Reply::Place {
        partition,
        shard,
        processor,
        path,
        exists,
    } = reply
    else {
        return Err(unexpected());
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "partition {partition}")?;
    match (shard, processor) {
        (Some(shard), Some(processor)) => writeln!(out, "shard {shard} on processor {processor}")?,
        _ => writeln!(out, "no shard: the server does not run")?,
    }
    writeln!(out, "{path}")?;
    if !exists {
        complain(&format!(
            "there is no account {address}; this is where it would be"
        ));
    }
    Ok(())
}

pub(super) async fn expire(office: &mut Office) -> Result<(), Failure> {
    let Reply::Reclaimed {
        freed_bytes,
        returned_bytes,
    } = office.ask(Request::Expire).await?
    else {
        return Err(unexpected());
    };
    let mut out = std::io::stdout();
    writeln!(out, "{freed_bytes} bytes freed for mail")?;
    // The rest are in files that the log goes on in.
    writeln!(out, "{returned_bytes} bytes given back to the filesystem")?;
    Ok(())
}
