//! `source remove`: the file gets a name that nobody reads, and credentials that only it named are removed. Backups are
//! not touched.

use std::{fs, io, path::PathBuf};

use serde_json::json;

use super::{
    super::super::{
        arguments::{Common, RemoveArguments},
        confirm,
        error::CtlError,
        output::{Output, say},
    },
    Place, credential,
    effect::{self, Change},
    file,
};

/// How many removed files of one source are kept beside each other.
const KEPT: u32 = 1000;

pub(super) async fn run(arguments: &RemoveArguments, common: &Common, output: &Output) -> Result<(), CtlError> {
    let place = Place::of(&arguments.source.name, &arguments.source.place)?;
    if !arguments.dry_run {
        place.may_write()?;
    }
    let plan = Plan::make(&place)?;
    if arguments.dry_run && output.is_json() {
        return output.json(&plan.json(&place));
    }
    if arguments.dry_run {
        return plan.lines(&place).iter().try_for_each(|line| output.line(line));
    }
    if !arguments.yes {
        plan.lines(&place).iter().for_each(say);
        confirm::ask(&format!("Remove source {}?", place.name), "the removal").await?;
    }
    plan.carry_out(&place, common).await?;
    if output.is_json() {
        return output.json(&plan.json(&place));
    }
    if output.is_quiet() {
        return Ok(());
    }
    output.line(format_args!("Source {} was removed; its file is now {}.", place.name, plan.aside.display()))?;
    output.line(format_args!(
        "Its backups stay: `backupctl list {0}` shows them, `backupctl delete` deletes them.",
        place.name
    ))
}

/// What will be done.
struct Plan {
    /// Where the file goes.
    aside: PathBuf,
    /// Files of credentials that nobody else names.
    credentials: Vec<PathBuf>,
    /// Credentials that stay, and why.
    kept: Vec<String>,
}

impl Plan {
    fn make(place: &Place) -> Result<Self, CtlError> {
        let text = place.read()?;
        let mut plan = Self { aside: aside(place)?, credentials: Vec::new(), kept: Vec::new() };
        let Ok(names) = file::credentials(&text) else {
            plan.kept.push(format!("Credentials of {} stay: the file cannot be read.", place.name));
            return Ok(plan);
        };
        let others = credential::named_by_others(&place.file);
        for name in names {
            match &others {
                Ok(others) if !others.contains(&name) => {
                    plan.credentials.extend(credential::files(&place.config_dir, &name));
                }
                Ok(_) => plan.kept.push(format!("The credential {name} stays: another source uses it.")),
                Err(path) => {
                    plan.kept.push(format!("The credential {name} stays: {} cannot be read.", path.display()));
                }
            }
        }
        Ok(plan)
    }

    fn lines(&self, place: &Place) -> Vec<String> {
        let mut lines = vec![format!("{} becomes {}, which nobody reads.", place.file.display(), self.aside.display())];
        lines.extend(self.credentials.iter().map(|path| format!("{} is removed.", path.display())));
        lines.extend(self.kept.iter().cloned());
        if effect::enabled_by_hand(place) {
            lines.push(format!(
                "Its timer was enabled by hand: `systemctl disable {}` ends that.",
                effect::timer(place)
            ));
        }
        lines.push(format!("Backups of {} stay in the repository.", place.name));
        lines
    }

    fn json(&self, place: &Place) -> serde_json::Value {
        json!({
            "source": place.name.as_str(),
            "file": place.file,
            "moved_to": self.aside,
            "removed_credentials": self.credentials,
            "kept": self.kept,
        })
    }

    /// The credentials go last: while they are there, the way back is one rename.
    async fn carry_out(&self, place: &Place, common: &Common) -> Result<(), CtlError> {
        let renamed = fs::rename(&place.file, &self.aside).and_then(|()| file::sync_folder(&place.file));
        renamed.map_err(|error| CtlError::io(format_args!("cannot rename {}", place.file.display()), &error))?;
        let change = Change { scheduled: false, restart: false };
        effect::take(place, common, change).await.map_err(|error| {
            let message = format!(
                "{} is now {}, but the daemon has not noticed: {error}. When that is mended, `backupctl reload`. To go back: \
                 mv {} {}. No credential was removed",
                place.file.display(),
                self.aside.display(),
                self.aside.display(),
                place.file.display()
            );
            error.with_message(message)
        })?;
        self.credentials.iter().try_for_each(|path| credential::remove(path))
    }
}

/// A name that is not there yet and does not end in `.toml`.
fn aside(place: &Place) -> Result<PathBuf, CtlError> {
    let name = |number: u32| match number {
        0 => place.file.with_extension("toml.removed"),
        number => place.file.with_extension(format!("toml.removed.{number}")),
    };
    let free =
        (0..KEPT).map(name).find(|path| path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    free.ok_or_else(|| {
        CtlError::usage(format!("{} files of {} were removed and are still there; delete some", KEPT, place.name))
    })
}
