//! Environment variables in the values of URLs: `${NAME}`.

use crate::secret::Secret;

/// Looks up an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts the variables in their places; `$$` is a dollar. The error tells neither the text nor a
/// value, both may hold a password.
pub(super) fn substitute(text: &str, environment: Environment<'_>) -> Result<Secret, String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        whole.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            whole.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, after)) = name.filter(|(name, _)| is_name(name)) else {
            return Err(
                "found a single $; write ${NAME} for an environment variable, $$ for a dollar".to_owned()
            );
        };
        let value = environment(name).ok_or_else(|| {
            format!("found ${{{name}}}, but there is no environment variable {name}; set it, or write $$ for a dollar")
        })?;
        whole.push_str(&value);
        rest = after;
    }
    whole.push_str(rest);
    Ok(Secret::new(whole))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
