//! The inside of a message: its parts, its header fields, what IMAP shows, sorts, threads and
//! searches of them. Pure functions over bytes.
//!
//! The first time that a message is looked into, [`Structure::parse`] (or a [`Scanner`], fed piece by
//! piece) takes it apart, and [`Summary::encode`] writes down all that FETCH ENVELOPE, BODY and
//! BODYSTRUCTURE, SORT, THREAD and sections need, in some hundred bytes to keep beside the message.
//! From then on [`Summary::decode`] is all that it costs.
//!
//! Guarantees: any bytes are a message, and no bytes make this panic; time is linear and memory
//! bounded ([`crate::limits`]); offsets are those of the bytes as stored.
//! Does not know: the protocol around the strings, the store, sequence numbers.

mod addresses;
mod body;
mod decode;
mod envelope;
mod fields;
mod fold;
mod keys;
mod params;
mod parts;
mod preview;
mod scan;
mod search;
mod strings;
mod summary;
mod text;
mod thread;

pub use addresses::{ListEntry, ListMailbox, parse_address_list};
pub use body::BodyStructure;
pub use decode::{TransferDecoder, decode_body};
pub use envelope::EnvelopeData;
pub use fields::{Field, FieldName, FieldNames, fields, filter_fields, unfold};
pub use fold::{collation_key, fold_into};
pub use keys::{Keys, MessageIdHash, SentDate, base_subject, parse_message_ids};
pub use params::{MediaType, Parameters, parse_disposition, parse_languages, parse_media_type};
pub use parts::{Charset, Encoding, Kind, Part, Parts, SectionText, partial};
pub use preview::preview;
pub use scan::{Scanner, Structure};
pub use search::{FieldSearch, HeaderPiece, HeaderPieces, Needle, TextSearch};
pub use strings::{Strings, write_nstring, write_string, write_text};
pub use summary::{EnvelopeField, Summary, SummaryError};
pub use text::{decode_charset, decode_field};
pub use thread::{ThreadKeys, ThreadList, Threads, thread_by_references, thread_by_subject};
