//! Questions before something that cannot be taken back.

use std::io::{self, IsTerminal as _, Write as _};

use super::{error::CtlError, output::say};

/// Asks on the terminal. Without one there is nobody to ask, and `--yes` must have been given.
///
/// # Errors
/// `InvalidArgs` without a terminal; `Canceled` for any answer but yes.
pub(crate) async fn ask(question: &str, action: &str) -> Result<(), CtlError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CtlError::usage(format!(
            "{action} is not done without a question; give --yes where nobody can answer"
        )));
    }
    let mut stderr = io::stderr();
    let shown = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    shown.map_err(|error| CtlError::io("cannot ask", &error))?;
    // In a thread, so that Control-C ends the program at once.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let answer = match answer.await {
        Ok(answer) => answer.map_err(|error| CtlError::io("cannot read the answer", &error))?,
        Err(_) => String::new(),
    };
    if answer.is_empty() {
        say(""); // The end of the input leaves the cursor behind the question.
        return Err(CtlError::declined(format!("{action} was not done, as there was no answer")));
    }
    if is_yes(&answer) { Ok(()) } else { Err(CtlError::declined(format!("{action} was not done, as you answered"))) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "yes\n", " Y \n", "YES"].iter().all(|answer| is_yes(answer)));
        assert!(!["", "\n", "n\n", "yess\n", "j\n", "yes please\n"].iter().any(|answer| is_yes(answer)));
    }
}
