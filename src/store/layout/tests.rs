//! Two files that say the same: what one has lost the other one knows.

use super::*;

fn open(data: &Path) -> Result<Contents, LayoutError> {
    let layout = Layout::open_or_create(data, 0, 2)?;
    layout.commit()?;
    Ok(layout.contents)
}

#[test]
fn one_of_the_two_files_makes_the_other_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let made = open(data).expect("made");
    let ready = Contents {
        is_new: false,
        ..made
    };
    let store = store_file(data);
    for path in [store.clone(), copy_file(&store)] {
        let sound = fs::read(&path).expect("a file");
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).expect("written");
            assert_eq!(open(data).expect("opened"), ready, "byte {at}");
            assert_eq!(fs::read(&path).expect("a file"), sound, "byte {at}");
            fs::write(&path, &sound[..at]).expect("written");
            assert_eq!(open(data).expect("opened"), ready, "{at} bytes");
        }
        fs::remove_file(&path).expect("removed");
        assert_eq!(open(data).expect("opened"), ready);
        assert_eq!(fs::read(&path).expect("a file"), sound);
    }
}

#[test]
fn the_lock_goes_although_a_copy_of_its_descriptor_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = Layout::open_or_create(folder.path(), 0, 1).expect("made");
    let copy = layout._lock.0.try_clone().expect("a copy");
    let locked = Layout::open_or_create(folder.path(), 0, 1);
    assert!(
        matches!(locked, Err(LayoutError::Locked { .. })),
        "{locked:?}"
    );
    drop(layout);
    Layout::open_or_create(folder.path(), 0, 1).expect("opened again");
    drop(copy);
}

#[test]
fn a_store_without_both_is_not_taken_for_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    open(data).expect("made");
    fs::create_dir(data.join("store/p000")).expect("a folder");
    let store = store_file(data);
    fs::remove_file(copy_file(&store)).expect("removed");
    fs::remove_file(&store).expect("removed");
    let said = open(data).expect_err("refused").to_string();
    assert!(
        said.contains("STORE: gone") && said.contains("p000"),
        "{said}"
    );
    assert!(!store.exists());
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    open(data).expect("made");
    let store = store_file(data);
    let newer = "ringpost store\nformat 7\nsomething else\n";
    let newer = format!("{newer}crc32c {:08x}\n", crc32c::crc32c(newer.as_bytes()));
    let sound = fs::read(&store).expect("a file");
    fs::write(&store, &newer).expect("written");
    let said = open(data).expect_err("refused").to_string();
    assert!(said.contains("STORE: store format 7"), "{said}");
    // The start of a newer version that ended between the two files.
    fs::write(&store, &sound).expect("written");
    fs::write(copy_file(&store), &newer).expect("written");
    let said = open(data).expect_err("refused").to_string();
    assert!(said.contains("STORE.copy: store format 7"), "{said}");
    // Not a newer one, but a flipped bit.
    fs::write(
        &store,
        String::from_utf8_lossy(&sound).replace("format 1", "format 9"),
    )
    .expect("written");
    fs::write(copy_file(&store), &sound).expect("written");
    open(data).expect("made again from its copy");
}
