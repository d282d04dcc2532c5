//! The manual page and completions for shells, from the definition that also prints `--help`.

use std::io::{self, Write as _};

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use clap_mangen::{Man, roff::Roff};

use crate::cli::Arguments;

/// Prints the completions for a shell.
///
/// # Errors
/// When they cannot be written.
pub fn print_completions(shell: Shell) -> io::Result<()> {
    let mut printed = Vec::new();
    generate(shell, &mut Arguments::command(), "pgfanout", &mut printed);
    io::stdout().write_all(&printed)
}

/// Prints the manual page, with all commands.
///
/// # Errors
/// When it cannot be written.
pub fn print_page() -> io::Result<()> {
    io::stdout().write_all(&page()?)
}

/// One page for all commands: there are few.
fn page() -> io::Result<Vec<u8>> {
    let mut command = Arguments::command();
    command.build();
    let page = Man::new(command.clone()).section("1").date("").manual("pgfanout");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    let mut heading = Roff::default();
    heading.control("SH", ["COMMANDS"]);
    heading.to_writer(&mut text)?;
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        render(command, &mut text)?;
    }
    page.render_extra_section(&mut text)?;
    Ok(text)
}

fn render(command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    let mut heading = Roff::default();
    heading.control("SS", [format!("pgfanout {}", command.get_name()).as_str()]);
    heading.to_writer(text)?;
    let page = Man::new(command.clone());
    let mut part = Vec::new();
    page.render_description_section(&mut part)?;
    page.render_options_section(&mut part)?;
    // Sections of a page of its own; here what is said follows under the command's name.
    for line in String::from_utf8_lossy(&part).lines().filter(|line| !line.starts_with(".SH ")) {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    Ok(())
}
