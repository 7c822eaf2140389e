//! Every bound of the server in one place, with compile-time assertions on how they relate.
//!
//! A name ends in its unit. What an operator may change is a setting (see [`crate::config`]);
//! what stands here bounds those settings, or bounds what no operator should have to know of.

/// Bytes of one command line in SMTP and LMTP, CRLF included (RFC 5321 §4.5.3.1.4 asks for 512,
/// extensions add to it; SMTPUTF8 and long `AUTH` responses fit here).
pub const COMMAND_LINE_BYTES_MAX: usize = 4096;
/// Bytes of one POP3 command line, CRLF included (RFC 2449 §4 asks for 255; SASL needs more).
pub const POP3_LINE_BYTES_MAX: usize = 4096;
/// Bytes of a command line without an end in sight at which a session is ended: up to here its peer
/// may have made a mistake and learn of it at the line's end.
pub const ENDLESS_LINE_BYTES: usize = 1024 * 1024;
/// Commands of one POP3 session that are unknown, malformed, over-long or out of place.
pub const POP3_BAD_COMMANDS_MAX: u8 = 20;
/// Wrong passwords of one POP3 session: the last of these ends it.
pub const POP3_LOGIN_FAILURES_MAX: u8 = 3;
/// Bytes of a message that a POP3 session asks for at once.
pub const POP3_READ_BYTES: u32 = 64 * 1024;
/// The same for TOP, which seldom needs more than the header.
pub const POP3_TOP_READ_BYTES: u32 = 16 * 1024;
/// Characters of a unique-id (RFC 1939 §7).
pub const POP3_UNIQUE_ID_BYTES_MAX: usize = 70;
/// Bytes of one IMAP command with its literals, messages of APPEND left out (RFC 9051 §4 and RFC 7162
/// §4 ask for at least 8192; sets of UIDs grow long).
pub const IMAP_COMMAND_BYTES_MAX: usize = 64 * 1024;
/// The same before login, where nothing long has business.
pub const IMAP_LOGIN_BYTES_MAX: usize = 8 * 1024;
/// Time in which an IMAP client must have logged in, from the greeting or from UNAUTHENTICATE. RFC 9051
/// §5.4 asks for 30 minutes of those who have.
pub const IMAP_LOGIN_TIME: std::time::Duration = std::time::Duration::from_secs(180);
/// Wrong passwords of one IMAP session, over its life: the last of these ends it.
pub const IMAP_LOGIN_FAILURES_MAX: u8 = 3;
/// Commands in a row of one IMAP session that were answered BAD.
pub const IMAP_BAD_COMMANDS_MAX: u8 = 20;
/// Search keys of one SEARCH, those that hold others counted in.
pub const IMAP_SEARCH_KEYS_MAX: usize = 1000;
/// Levels of NOT, OR and parentheses in SEARCH.
pub const IMAP_SEARCH_DEPTH_MAX: usize = 50;
/// Search keys of one SEARCH that need a look into messages.
pub const IMAP_SEARCH_TEXTS_MAX: usize = 64;
/// Messages that THREAD puts in order at once.
pub const IMAP_THREAD_MESSAGES_MAX: usize = 200_000;
/// Bytes of the keys that one SORT or THREAD puts messages in order by: a few million messages by
/// date, a million by subject.
pub const IMAP_ORDER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages that SORT brings in their order before others have their turn.
pub const IMAP_MERGE_MESSAGES: usize = 4096;
/// Seconds between two words to an IMAP client about how far its command is.
pub const IMAP_PROGRESS_SECONDS: u64 = 10;
/// Items of one FETCH.
pub const IMAP_FETCH_ITEMS_MAX: usize = 100;
/// Patterns of one LIST.
pub const IMAP_LIST_PATTERNS_MAX: usize = 64;
/// Bytes of all patterns of one LIST together, each with its reference: all names are compared with all
/// of them.
pub const IMAP_LIST_PATTERN_BYTES_MAX: usize = 4 * MAILBOX_NAME_BYTES_MAX;
/// Bytes of a keyword.
pub const IMAP_KEYWORD_BYTES_MAX: usize = 64;
/// Keywords of one command.
pub const IMAP_KEYWORDS_MAX: usize = 64;
/// Messages that are looked through for the first one without `\Seen`: opening a mailbox must not
/// depend on its size.
pub const IMAP_UNSEEN_LOOKS_MAX: usize = 2000;
/// Messages of a mailbox that an IMAP session looks at in one go.
pub const IMAP_SLICE_MESSAGES: usize = 1024;
/// Bytes of messages that an IMAP session has looked into at once, but for the last of them.
pub const IMAP_LOOK_BYTES: u64 = 1024 * 1024;
/// Bytes of small messages, with what lies between them, that are read for one look into many.
pub const GATHERED_BYTES_MAX: u64 = 4 * IMAP_LOOK_BYTES;
/// Messages that have changed in a mailbox, of which an IMAP session keeps a list between two slices;
/// of more it keeps none.
pub const IMAP_CHANGED_MESSAGES_MAX: usize = 16 * 1024;
/// Bytes of a message that an IMAP session asks for at once.
pub const IMAP_READ_BYTES: u32 = 64 * 1024;
/// Bytes of the messages of one APPEND that a session holds; what is more streams to the store.
pub const IMAP_APPEND_BYTES_MAX: usize = 256 * 1024;
/// Messages of one APPEND (RFC 3502): all of them are in one batch of the log, so that they come all or
/// none.
pub const IMAP_APPEND_MESSAGES_MAX: usize = 10_000;
/// Bytes of the batch that each of them takes, of an account whose address has 48 bytes or fewer;
/// keywords come on top. With a longer address fewer messages fit, which the store finds at the end.
pub const IMAP_APPEND_ENTRY_BYTES: usize = 208;
/// Bytes of the batch for the entries of one APPEND.
pub const IMAP_APPEND_ENTRIES_BYTES_MAX: usize = BATCH_BYTES_MAX - 2 * BLOCK_BYTES;
/// Bytes of plain text that a compressed connection gets ready at once for its session (RFC 4978).
pub const INFLATE_PIECE_BYTES: usize = 16 * 1024;
/// The same in one turn: 8 KiB that were received may stand for 8 MiB, and others want to be served.
pub const INFLATE_TURN_BYTES: usize = 256 * 1024;
/// What the start of a block of compressed input counts in a turn beside what it stands for: its tables
/// are built even if that is nothing, and 8 KiB hold thousands of such blocks.
pub const INFLATE_BLOCK_BYTES: usize = 1024;
/// Blocks of compressed input that are unpacked at once.
pub const INFLATE_PIECE_BLOCKS: usize = 64;
/// How far back compressed input may refer (RFC 1951 §2).
pub const INFLATE_WINDOW_BYTES: usize = 32 * 1024;
/// Bytes of a conversation that a session notes for telemetry between two turns.
pub const TRANSCRIPT_BYTES_MAX: usize = 512 * 1024;
/// The same before anybody has logged in: whose conversation it is, is not known yet.
pub const TRANSCRIPT_LOGIN_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the telemetry of one connection: behind them nothing more is written of it.
pub const TELEMETRY_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files of telemetry of one account: for one more, the oldest goes.
pub const TELEMETRY_FILES_MAX: usize = 100;
/// Bytes of telemetry that wait to be written, of all connections.
pub const TELEMETRY_QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Changes, and ranges of new messages, that an IMAP session remembers as its client's own, so as not to
/// tell them; of what is behind, the client is told although it knows.
pub const IMAP_OWN_MAX: usize = 1024;
/// Bytes of a header that an IMAP session looks through for the fields of FETCH; what is behind is left
/// out. SEARCH looks through all of it.
pub const IMAP_HEADER_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of an HTTP request head: request line, fields and the empty line.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Fields of an HTTP request head.
pub const HTTP_FIELDS_MAX: usize = 64;
/// Seconds in which an HTTP request head must be complete, and in which output must move.
pub const HTTP_IDLE_SECONDS: u64 = 30;
/// Bytes of a local part (RFC 5321 §4.5.3.1.1 asks for 64; we take more).
pub const LOCAL_PART_BYTES_MAX: usize = 256;
/// Bytes of a domain (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Bytes of an address: local part, `@`, domain.
pub const ADDRESS_BYTES_MAX: usize = LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX;
/// Bytes of a reply that may wait in a connection's output before the session is told to drain.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message body kept in memory by a session; what is larger streams to the store.
pub const BODY_INLINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one streamed piece of a larger body.
pub const BODY_CHUNK_BYTES: usize = 128 * 1024;
/// `Received` fields in a message before it counts as looping (RFC 5321 §6.3 asks for at least 100).
pub const HOPS_MAX: usize = 100;
/// Parts of a message that are told apart; what follows them is one opaque part.
pub const MIME_PARTS_MAX: usize = 1000;
/// Levels of multipart and message/rfc822 that are told apart; what is deeper is opaque.
pub const MIME_DEPTH_MAX: usize = 32;
/// Bytes of a MIME boundary (RFC 2046 §5.1.1 allows 70; some send more).
pub const MIME_BOUNDARY_BYTES_MAX: usize = 200;
/// Bytes of one header field that ENVELOPE, BODYSTRUCTURE and sort keys look at; the rest of a longer
/// one is left out there.
pub const MIME_FIELD_BYTES_MAX: usize = 64 * 1024;
/// The same for all fields of a message together.
pub const MIME_FIELDS_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a message's summary that is worth caching; a longer one is made anew each time.
pub const SUMMARY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one sort key; strings that differ only behind them sort as equal.
pub const SORT_KEY_BYTES_MAX: usize = 255;
/// Message-IDs of one References field: the first and the last ones stay.
pub const REFERENCES_MAX: usize = 100;
/// Characters of a preview (RFC 8970 §3.1: up to 200 recommended, 256 allowed).
pub const PREVIEW_CHARS_MAX: usize = 200;
/// Bytes of a text part that its preview is made from.
pub const PREVIEW_SOURCE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a string to search for.
pub const SEARCH_STRING_BYTES_MAX: usize = 4096;
/// Bytes of one provided receive buffer.
pub const RECV_BUFFER_BYTES: usize = 8 * 1024;
/// Provided receive buffers of a shard (a power of two).
pub const RECV_BUFFERS: u16 = 1024;
/// Bytes of one batch of the log, header and padding included.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes that the recipients of one delivery take in a batch, beside its body: more recipients in one
/// partition are several deliveries.
pub const DELIVERY_RECIPIENT_BYTES_MAX: usize = 1024 * 1024;
/// Recipients that one message may be allowed to have (`--recipients-max` is at most this).
pub const RECIPIENTS_MAX: u64 = 100_000;
/// Bytes of one log segment. Going on in the next one holds mail up for a moment: at this size, a few
/// times a second under the heaviest load.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// The log's block: batches start on one, and body checksums cover one each.
pub const BLOCK_BYTES: usize = 4096;
/// Partitions of a store.
pub const PARTITIONS_MAX: u16 = 0x1000;
/// Processors (shards) of a server.
pub const SHARDS_MAX: usize = 512;
/// Addresses that one alias may expand to.
pub const ALIAS_TARGETS_MAX: usize = 1000;
/// Aliases that one address may pass through.
pub const ALIAS_DEPTH_MAX: usize = 10;
/// Bytes of one request on the control socket.
pub const ADMIN_REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one reply on the control socket; longer lists come in pages.
pub const ADMIN_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Accounts in one request of the control socket, and in one page of a list.
pub const ADMIN_ACCOUNTS_MAX: usize = 1000;
/// Messages waiting in one direction between two shards.
pub const MESH_DEPTH: usize = 4096;
/// Connections of one shard.
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// Bytes of a message the server can be told to take (`--message-bytes-max` is at most this).
pub const MESSAGE_BYTES_MAX: u64 = 1 << 31;

/// Bytes of a mailbox's name in UTF-8, all levels and separators included.
pub const MAILBOX_NAME_BYTES_MAX: usize = 512;
/// Levels of a mailbox's name.
pub const MAILBOX_DEPTH_MAX: usize = 32;
/// Mailboxes of one account. Those under a name can all be renamed in one batch of the log.
pub const MAILBOXES_MAX: usize = 1000;
/// Names of mailboxes that a partition remembers for those who ask again, about 128 bytes each.
pub const REMEMBERED_NAMES_MAX: usize = 50_000;
/// Different keywords of one mailbox, over its life.
pub const KEYWORDS_MAX: usize = 64;
/// Bytes of one keyword.
pub const KEYWORD_BYTES_MAX: usize = 128;
/// Ranges of expunged UIDs that a mailbox remembers with their MODSEQ. Ranges that touch are joined
/// first, then the oldest are forgotten: a client that was away for longer is told of every UID that
/// is not there (RFC 7162 §3.2.5.1 allows it).
pub const VANISHED_RANGES_MAX: usize = 128;
/// Bytes of what is kept of one body beside it (its ENVELOPE, structure and sort keys).
pub const CACHE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of such that a partition keeps in memory.
pub const CACHE_MEMORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Watches of one partition: a few for each connection.
pub const WATCHES_MAX: usize = 4 * CONNECTIONS_MAX;
/// Entries of the access list of one mailbox.
pub const ACCESS_ENTRIES_MAX: usize = 200;
/// Accounts that have let one account into mailboxes of theirs.
pub const LET_IN_MAX: usize = 200;
/// Accounts of a site that have let everybody into mailboxes of theirs.
pub const SHARING_MAX: usize = 1000;
/// Changes of what is open to everybody that may wait for their turn; and, at each shard, of access
/// lists by visitors.
pub const SHARING_WAITING_MAX: usize = 16;
/// Other accounts whose mailboxes one IMAP connection has to do with at a time.
pub const IMAP_VISITS_MAX: usize = 8;
/// Other accounts that one IMAP connection watches (RFC 5465): more is too much for NOTIFY.
pub const IMAP_WATCHED_ACCOUNTS_MAX: usize = 32;
/// Mailboxes of others that are listed to one IMAP client; those behind them are left out.
pub const IMAP_SHARED_MAILBOXES_MAX: usize = 10_000;
/// Things that happened in an account and that its watcher has not taken yet; messages count once a
/// mailbox. Beyond them the watcher learns only that it was too much (RFC 5465 §5.8).
pub const JOURNAL_EVENTS_MAX: usize = 256;
/// Groups of events in one NOTIFY (RFC 5465 §3.1).
pub const IMAP_NOTIFY_GROUPS_MAX: usize = 32;
/// Names of mailboxes in one NOTIFY.
pub const IMAP_NOTIFY_NAMES_MAX: usize = 200;
/// Bytes of an annotation's value (RFC 5464 §4.1 asks for at least 1024).
pub const ANNOTATION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an annotation's name.
pub const ANNOTATION_NAME_BYTES_MAX: usize = 255;
/// Annotations of one mailbox, or of one account's server annotations (RFC 5464 §4.1 asks for at least
/// 10); and entries of one command.
pub const ANNOTATIONS_MAX: usize = 100;
/// Bytes of those, names and values.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Annotations of an account and all its mailboxes.
pub const ACCOUNT_ANNOTATIONS_MAX: usize = 5000;
/// Bytes of those, names and values.
pub const ACCOUNT_ANNOTATIONS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of a small value kept with an account or mailbox: an access list, an annotation.
pub const ACCOUNT_VALUE_BYTES_MAX: usize = 64 * 1024;

const _: () = assert!(BODY_CHUNK_BYTES <= BODY_INLINE_BYTES_MAX);
const _: () =
    assert!(MAILBOXES_MAX * (MAILBOX_NAME_BYTES_MAX + ADDRESS_BYTES_MAX + 128) < BATCH_BYTES_MAX);
const _: () = assert!(MAILBOXES_MAX * 4 < REMEMBERED_NAMES_MAX);
const _: () = assert!(KEYWORDS_MAX <= u64::BITS as usize);
const _: () = assert!(KEYWORDS_MAX * KEYWORD_BYTES_MAX < u16::MAX as usize);
const _: () = assert!(CACHE_BYTES_MAX * 4 <= CACHE_MEMORY_BYTES_MAX);
const _: () = assert!(CACHE_BYTES_MAX * 8 <= BATCH_BYTES_MAX);
const _: () = assert!(BODY_INLINE_BYTES_MAX * 4 <= BATCH_BYTES_MAX);
const _: () = assert!(BODY_INLINE_BYTES_MAX * 2 + DELIVERY_RECIPIENT_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!((BATCH_BYTES_MAX as u64) * 4 <= SEGMENT_BYTES);
const _: () = assert!(BATCH_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(RECV_BUFFERS.is_power_of_two());
const _: () = assert!(COMMAND_LINE_BYTES_MAX < ENDLESS_LINE_BYTES);
const _: () = assert!(POP3_LINE_BYTES_MAX < ENDLESS_LINE_BYTES);
const _: () = assert!(COMMAND_LINE_BYTES_MAX <= RECV_BUFFER_BYTES);
const _: () = assert!(ALIAS_TARGETS_MAX * (ADDRESS_BYTES_MAX + 1) < BATCH_BYTES_MAX);
const _: () = assert!(ALIAS_TARGETS_MAX * (ADDRESS_BYTES_MAX + 3) < ADMIN_REQUEST_BYTES_MAX);
const _: () = assert!(ADMIN_ACCOUNTS_MAX * 2 * ADDRESS_BYTES_MAX < ADMIN_REPLY_BYTES_MAX);
const _: () = assert!(ADDRESS_BYTES_MAX * 2 < COMMAND_LINE_BYTES_MAX);
const _: () = assert!(ADDRESS_BYTES_MAX < POP3_LINE_BYTES_MAX);
const _: () = assert!(POP3_LINE_BYTES_MAX <= RECV_BUFFER_BYTES);
const _: () = assert!(IMAP_LOGIN_BYTES_MAX <= IMAP_COMMAND_BYTES_MAX);
const _: () = assert!(IMAP_COMMAND_BYTES_MAX < ENDLESS_LINE_BYTES);
const _: () = assert!(ADDRESS_BYTES_MAX < IMAP_LOGIN_BYTES_MAX);
const _: () = assert!(IMAP_READ_BYTES as usize <= OUTPUT_BYTES_MAX);
const _: () = assert!(TRANSCRIPT_LOGIN_BYTES_MAX <= TRANSCRIPT_BYTES_MAX);
const _: () = assert!(TRANSCRIPT_BYTES_MAX < TELEMETRY_QUEUED_BYTES_MAX);
const _: () = assert!(INFLATE_PIECE_BYTES <= INFLATE_TURN_BYTES);
const _: () = assert!(INFLATE_PIECE_BLOCKS * INFLATE_BLOCK_BYTES <= INFLATE_TURN_BYTES);
const _: () = assert!(IMAP_SEARCH_TEXTS_MAX <= u64::BITS as usize);
const _: () = assert!(IMAP_KEYWORD_BYTES_MAX <= KEYWORD_BYTES_MAX);
const _: () = assert!(IMAP_KEYWORDS_MAX <= KEYWORDS_MAX);
const _: () = assert!(ANNOTATION_BYTES_MAX < IMAP_COMMAND_BYTES_MAX);
// The name of an annotation, and whose it is.
const _: () = assert!(
    ANNOTATION_BYTES_MAX + ANNOTATION_NAME_BYTES_MAX + ADDRESS_BYTES_MAX + 16
        <= ACCOUNT_VALUE_BYTES_MAX
);
const _: () = assert!(ANNOTATION_BYTES_MAX * 4 <= ANNOTATIONS_BYTES_MAX);
const _: () = assert!(ANNOTATIONS_BYTES_MAX <= ACCOUNT_ANNOTATIONS_BYTES_MAX);
const _: () = assert!(ANNOTATIONS_MAX <= ACCOUNT_ANNOTATIONS_MAX);
const _: () =
    assert!(IMAP_APPEND_MESSAGES_MAX * IMAP_APPEND_ENTRY_BYTES <= IMAP_APPEND_ENTRIES_BYTES_MAX);
const _: () = assert!(SUMMARY_BYTES_MAX <= CACHE_BYTES_MAX);
const _: () = assert!(POP3_READ_BYTES as usize <= OUTPUT_BYTES_MAX);
const _: () = assert!(POP3_TOP_READ_BYTES <= POP3_READ_BYTES);
const _: () = assert!(MIME_FIELD_BYTES_MAX <= MIME_FIELDS_BYTES_MAX);
const _: () = assert!(MIME_PARTS_MAX < u16::MAX as usize);
const _: () = assert!(PREVIEW_CHARS_MAX <= 256);
// `validity.uid`, two numbers of up to ten digits.
const _: () = assert!(10 + 1 + 10 <= POP3_UNIQUE_ID_BYTES_MAX);
