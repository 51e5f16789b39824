//! Words of a POSIX shell, for commands that people are shown.

/// One word of a POSIX shell. Control characters and bytes that are no UTF-8 are written with `printf`, so that what is
/// shown can be copied. (Line feeds at the end would be lost by that.)
pub(crate) fn quoted(text: &[u8]) -> String {
    let safe = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'+' | b'@' | b'%')
    };
    if !text.is_empty() && text.iter().all(safe) && !text.starts_with(b"-") {
        return String::from_utf8_lossy(text).into_owned();
    }
    match std::str::from_utf8(text) {
        Ok(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let octal: String = text.iter().map(|byte| format!("\\{byte:03o}")).collect();
            format!("\"$(printf '{octal}')\"")
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What a shell makes of a word.
    pub(crate) fn shell(word: &str) -> Vec<u8> {
        let output = Command::new("sh").arg("-c").arg(format!("printf %s {word}")).output().unwrap();
        assert!(output.status.success(), "{word}");
        output.stdout
    }

    #[test]
    fn hostile_names_pass_the_shell_whole() {
        for name in
            ["shop", "", "-x", "it's", "a b", "$(touch x)`id`", "a\nb", "\\ \"q\"", "a=b", "postgres://x", "ü\t!"]
        {
            assert_eq!(shell(&quoted(name.as_bytes())), name.as_bytes(), "{name:?}");
        }
        assert_eq!(shell(&quoted(b"\xff\x01'")), b"\xff\x01'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_name_passes_the_shell_whole(name in "[^\0\n]{1,20}") {
            prop_assert_eq!(shell(&quoted(name.as_bytes())), name.as_bytes());
        }
    }
}
