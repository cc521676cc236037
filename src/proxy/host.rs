//! The host that a request names: a name or an address, and a port or none.

/// It is no host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Which bytes a name may have: RFC 3986, section 3.2.2, but for the comma, which would make a
/// list of it to whoever joins fields.
const OF_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"-._~!$&'()*+;=%";
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// Reads a host with or without a port; returns it without the port and a dot at its end.
///
/// What nginx lets pass is narrowed down to what has one reading: a name that another reads as
/// another name with a bad port would pass by the routes of that name.
pub(super) fn read(whole: &str) -> Result<&str, Malformed> {
    let bytes = whole.as_bytes();
    let end = if bytes.first() == Some(&b'[') {
        bytes.iter().position(|byte| *byte == b']').ok_or(Malformed)? + 1
    } else {
        bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())
    };
    let (host, port) = whole.split_at_checked(end).ok_or(Malformed)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
    match port.strip_prefix(':') {
        Some(port) if is_port(port) => {}
        None if port.is_empty() => {}
        _ => return Err(Malformed),
    }
    if let Some(address) = host.strip_prefix('[') {
        let of_addresses = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
        let address = address.strip_suffix(']').ok_or(Malformed)?;
        let is_address = address.contains(':') && address.bytes().all(of_addresses);
        return if is_address { Ok(host) } else { Err(Malformed) };
    }
    let mut before = 0;
    for byte in host.bytes() {
        if !OF_NAMES[usize::from(byte)] || (byte == b'.' && before == b'.') {
            return Err(Malformed);
        }
        before = byte;
    }
    match host.strip_suffix('.').unwrap_or(host) {
        "" => Err(Malformed),
        host => Ok(host),
    }
}

/// A host and its port, which is empty where none is named.
pub(super) fn split_port(host: &str) -> (&str, &str) {
    // By bytes: a port is short, and a search for characters takes longer to begin than to end.
    let colon = host.bytes().rposition(|byte| byte == b':');
    match colon.map(|at| (&host[..at], &host[at + 1..])) {
        // The colons of a bare IPv6 address are no port's.
        Some((before, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!before.contains(':') || before.ends_with(']')) =>
        {
            (before, port)
        }
        _ => (host, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses() {
        for (whole, host) in [
            ("a.com", "a.com"),
            ("A.com.:81", "A.com"),
            ("a_b-c", "a_b-c"),
            ("a:", "a"),
            ("1.2.3.4:80", "1.2.3.4"),
            ("[::1]", "[::1]"),
            ("[::ffff:1.2.3.4]:65535", "[::ffff:1.2.3.4]"),
        ] {
            assert_eq!(read(whole), Ok(host), "{whole}");
        }
    }

    #[test]
    fn refuses_what_could_be_another_host() {
        for whole in [
            "",
            ".",
            ":80",
            "a:b",
            "a:80:80",
            "a:123456",
            "a:+1",
            "::1",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a\\b",
            "a..b",
            "\u{e4}",
            "a\0",
            "[::1",
            "[]",
            "[a]",
            "[::1]b",
            "[::1]:b",
            "[::1%25eth0]",
            "a]",
            "a[",
        ] {
            assert_eq!(read(whole), Err(Malformed), "{whole:?}");
        }
    }

    #[test]
    fn tells_a_port_from_the_end_of_an_address() {
        for (whole, split) in [
            ("a:81", ("a", "81")),
            ("[::1]:81", ("[::1]", "81")),
            ("[::1]", ("[::1]", "")),
            ("::1", ("::1", "")),
            ("a:x", ("a:x", "")),
        ] {
            assert_eq!(split_port(whole), split, "{whole}");
        }
    }
}
