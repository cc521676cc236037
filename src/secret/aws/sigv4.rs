//! Signature Version 4, for requests whose path is `/` and which have no query.
//!
//! Written here rather than taken from `aws-sigv4`, which brings the runtime of AWS's SDK along.
//!
//! Source: AWS `IAM User Guide`, "Create a signed AWS API request".

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Where a signature holds, and when.
pub(super) struct Scope<'s> {
    pub(super) region: &'s str,
    pub(super) service: &'s str,
    /// `20150830T123600Z`.
    pub(super) time: &'s str,
}

/// The header `Authorization` of a request to `/`. `headers` are all that are signed, their names
/// in lower case and sorted, `host` and `x-amz-date` among them.
pub(super) fn authorization(
    method: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    scope: &Scope<'_>,
    (key_id, key): (&str, &str),
) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!("{method}\n/\n\n");
    for (name, value) in headers {
        // Writing to a text cannot fail.
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", hash(body));
    let day = scope.time.get(..8).unwrap_or_default();
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("{ALGORITHM}\n{}\n{place}\n{}", scope.time, hash(canonical.as_bytes()));
    let mut tag = sign(format!("AWS4{key}").as_bytes(), day);
    for part in [scope.region, scope.service, "aws4_request", &to_sign] {
        tag = sign(tag.as_ref(), part);
    }
    let signature = hex(tag.as_ref());
    format!("{ALGORITHM} Credential={key_id}/{place}, SignedHeaders={names}, Signature={signature}")
}

/// Seconds since 1970 as `20150830T123600Z`.
pub(super) fn time(unix_seconds: i64) -> String {
    let time = x509_parser::time::ASN1Time::from_timestamp(unix_seconds);
    let Ok(time) = time.map(|time| time.to_datetime()) else {
        return String::new();
    };
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hash(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    const HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");
    /// Of `post-sts-token/post-sts-header-before`.
    const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWs\
        KWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8p\
        hUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0\
        u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn check(method: &str, headers: &[(&str, &str)], body: &str, signature: &str) {
        let scope = Scope { region: "us-east-1", service: "service", time: DATE.1 };
        let signed = authorization(method, headers, body.as_bytes(), &scope, KEY);
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            signed,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={}, Signature={signature}",
                names.join(";")
            )
        );
    }

    /// Those cases of AWS's published test suite (`aws-sig-v4-test-suite`) that ask for `/`.
    #[test]
    fn signs_as_the_published_test_suite_does() {
        check(
            "GET",
            &[HOST, DATE],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        check(
            "POST",
            &[HOST, DATE],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        check(
            "POST",
            &[("content-type", "application/x-www-form-urlencoded"), HOST, DATE],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
        check(
            "POST",
            &[HOST, DATE, ("x-amz-security-token", TOKEN)],
            "",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        );
    }

    #[test]
    fn writes_times_as_aws_does() {
        assert_eq!(time(1_440_938_160), "20150830T123600Z");
        assert_eq!(time(0), "19700101T000000Z");
    }
}
