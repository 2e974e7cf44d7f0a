//! `sh -c` as far as the guide goes: words, quotes, variables, patterns, `&&` and `;`.

use super::{Finished, Pod, and, run as run_program};
use node::programs::pattern;

/// Runs `sh -c LINE`.
pub fn run(pod: &Pod, arguments: &[&str]) -> Finished {
    let Some(line) = arguments.iter().position(|a| *a == "-c").and_then(|at| arguments.get(at + 1))
    else {
        return Finished::failed(
            "sh: only sh -c 'COMMAND' is supported in the playground\n".to_owned(),
            2,
        );
    };
    let words = match split(line, pod) {
        Ok(words) => words,
        Err(why) => return Finished::failed(format!("sh: 1: Syntax error: {why}\n"), 2),
    };
    let mut finished = Finished::default();
    let mut command = Vec::new();
    for word in words.into_iter().chain([Word::Then]) {
        let Word::Text(text, pattern) = word else {
            if !command.is_empty() {
                finished = and(finished, one(pod, &std::mem::take(&mut command)));
            }
            if word == Word::And && finished.status != 0 {
                return finished;
            }
            continue;
        };
        let expanded = if pattern { pattern::expand(pod.host, &text) } else { Vec::new() };
        match expanded.is_empty() {
            true => command.push(text),
            false => command.extend(expanded),
        }
    }
    finished
}

fn one(pod: &Pod, command: &[String]) -> Finished {
    run_program(pod, command).unwrap_or_else(|| {
        Finished::failed(format!("sh: 1: {}: not found\n", command.first().map_or("", |c| c)), 127)
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// The text, and whether it holds a pattern outside of quotes.
    Text(String, bool),
    And,
    Then,
}

fn split(line: &str, pod: &Pod) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut current: Option<(String, bool)> = None;
    let mut letters = line.chars().peekable();
    let push = |current: &mut Option<(String, bool)>, words: &mut Vec<Word>| {
        if let Some((text, pattern)) = current.take() {
            words.push(Word::Text(text, pattern));
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => push(&mut current, &mut words),
            ';' | '\n' => {
                push(&mut current, &mut words);
                words.push(Word::Then);
            }
            '&' => {
                if letters.next() != Some('&') {
                    return Err("\"&\" alone is not supported in the playground".to_owned());
                }
                push(&mut current, &mut words);
                words.push(Word::And);
            }
            '|' | '<' | '>' | '`' | '(' => {
                return Err(format!("\"{letter}\" is not supported in the playground"));
            }
            '\'' => {
                let word = current.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(inside) => word.0.push(inside),
                        None => return Err("Unterminated quoted string".to_owned()),
                    }
                }
            }
            '"' => {
                let word = current.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('$') => word.0 += &variable(&mut letters, pod),
                        Some('\\') => word.0.extend(letters.next()),
                        Some(inside) => word.0.push(inside),
                        None => return Err("Unterminated quoted string".to_owned()),
                    }
                }
            }
            '$' => current.get_or_insert_default().0 += &variable(&mut letters, pod),
            '\\' => current.get_or_insert_default().0.extend(letters.next()),
            other => {
                let word = current.get_or_insert_default();
                word.0.push(other);
                word.1 |= matches!(other, '*' | '?');
            }
        }
    }
    push(&mut current, &mut words);
    Ok(words)
}

fn variable(letters: &mut std::iter::Peekable<std::str::Chars>, pod: &Pod) -> String {
    let braced = letters.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(letter);
    }
    if braced {
        letters.next_if_eq(&'}');
    }
    pod.environment.get(&name).cloned().unwrap_or_default()
}
