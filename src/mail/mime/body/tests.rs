//! BODY and BODYSTRUCTURE of the RFC's examples and of messages that have no good one.

use super::*;

fn of(message: &str) -> (String, String) {
    let structure = Structure::parse(message.as_bytes());
    let body_structure = BodyStructure::new(&structure, Strings::Ascii);
    let mut body = Vec::new();
    body_structure.write_body(&mut body);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&body_structure.text), text(&body))
}

#[test]
fn a_text() {
    let (structure, body) = of("Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\na\r\nb\r\n");
    assert_eq!(
        structure,
        "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 6 2 NIL NIL NIL NIL)"
    );
    assert_eq!(
        body,
        "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 6 2)"
    );
    assert_eq!(
        of("\r\n").1,
        "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 0 0)"
    );
}

/// RFC 9051 §7.5.2: the example of a text with an attachment, made to a message.
#[test]
fn a_multipart() {
    let (structure, body) = of("Content-Type: multipart/MIXED; boundary=\"b\"\r\n\
        Content-Language: en, de\r\n\
        \r\n\
        --b\r\n\
        Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\
        \r\n\
        x\r\n\
        \r\n\
        --b\r\n\
        Content-Type: TEXT/PLAIN; CHARSET=US-ASCII;\r\n NAME=\"cc.diff\"\r\n\
        Content-ID: <960723163407.20117h@cac.washington.edu>\r\n\
        Content-Description: Compiler diff\r\n\
        Content-Transfer-Encoding: BASE64\r\n\
        Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n\
        Content-Disposition: attachment; filename=\"a \\\"b\\\".diff\"\r\n\
        Content-Location: cc.diff\r\n\
        \r\n\
        eA==\r\n\
        --b--\r\n");
    assert_eq!(
        structure,
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3 1 NIL NIL NIL NIL)\
         (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" \"cc.diff\") \
         \"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 4 0 \
         \"Q2hlY2sgSW50ZWdyaXR5IQ==\" (\"attachment\" (\"filename\" \"a \\\"b\\\".diff\")) NIL \
         \"cc.diff\") \"MIXED\" (\"boundary\" \"b\") NIL (\"en\" \"de\") NIL)"
    );
    assert_eq!(
        body,
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3 1)\
         (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" \"cc.diff\") \
         \"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 4 0) \"MIXED\")"
    );
}

#[test]
fn a_message_in_a_message() {
    let (_, body) = of("Content-Type: multipart/digest; boundary=b\r\n\r\n\
        --b\r\n\r\nSubject: in\r\n\r\ntext\r\nmore\r\n--b\r\n\
        Content-Type: application/x\r\n\r\ny\r\n--b--\r\n");
    assert_eq!(
        body,
        "((\"message\" \"rfc822\" NIL NIL NIL \"7BIT\" 25 \
         (NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) \
         (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 10 1) 3)\
         (\"application\" \"x\" NIL NIL NIL \"7BIT\" 1) \"digest\")"
    );
}

#[test]
fn what_cannot_be_taken_apart() {
    for (message, expected) in [
        // No boundary, no part, and no part that ends.
        (
            "Content-Type: multipart/mixed\r\n\r\nx",
            "(\"text\" \"plain\"",
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\nx",
            "(\"text\" \"plain\"",
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n",
            "((\"a\" \"b\" NIL NIL NIL \"7BIT\" 0) \"mixed\")",
        ),
        // RFC 2046 §5.2.1 forbids it, and the client can decode it.
        (
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nxx==",
            "(\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 4)",
        ),
        (
            "Content-Type: nonsense\r\nContent-Type: a/b\r\n\r\n",
            "(\"text\" \"plain\"",
        ),
        (
            "Content-Type: a/b; name=\"\u{fc}\"\r\n\r\n",
            "(\"a\" \"b\" (\"name\" {2}\r\n\u{fc}) NIL NIL \"7BIT\" 0)",
        ),
        ("", "(\"text\" \"plain\""),
    ] {
        let (_, body) = of(message);
        assert!(body.starts_with(expected), "{message}\n{body}");
    }
}
