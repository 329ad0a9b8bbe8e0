//! Tokens in a file, `token,user,uid,"group1,group2"` a line: for robots of a lab. They never expire.

use std::collections::HashMap;

use super::digest;
use crate::auth::User;

/// A line that is not as it should be. The token is not in the message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the token file: {reason}; a line is token,user,uid,\"group1,group2\"")]
pub struct TokenFileError {
    line: usize,
    reason: &'static str,
}

/// The tokens of a file, by their digests.
#[derive(Default)]
pub struct StaticTokens(HashMap<[u8; 32], User>);

impl StaticTokens {
    /// Reads the file's text. Empty lines and those that begin with `#` are passed over.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut tokens = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let fail = |reason| TokenFileError { line: number + 1, reason };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let fields = fields(line).ok_or_else(|| fail("a quote is not closed"))?;
            let [token, name, uid, rest @ ..] = &fields[..] else {
                return Err(fail("fewer than three fields"));
            };
            if token.is_empty() || name.is_empty() || rest.len() > 1 {
                return Err(fail(
                    "the token or the user is empty, or there are more than four fields",
                ));
            }
            let groups = rest.iter().flat_map(|list| list.split(',')).map(str::trim);
            let user = User::new(name, groups.filter(|group| !group.is_empty()));
            let user = User { uid: uid.clone(), ..user.authenticated() };
            if tokens.insert(digest(token.as_bytes()), user).is_some() {
                return Err(fail("the same token is there twice"));
            }
        }
        Ok(Self(tokens))
    }

    /// Whose a token is.
    pub fn user(&self, token: &str) -> Option<&User> {
        self.0.get(&digest(token.as_bytes()))
    }
}

/// The fields between commas that are not in quotes (RFC 4180, one line).
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut current, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut current).trim().to_owned()),
            letter => current.push(letter),
        }
    }
    fields.push(current.trim().to_owned());
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_makes_a_user() {
        let text = "# lab\n\nt0k3n,robot,u1,\"ops, dev\"\nother,ada,\n";
        let tokens = StaticTokens::parse(text).unwrap();
        let robot = tokens.user("t0k3n").unwrap();
        assert_eq!((robot.name.as_str(), robot.uid.as_str()), ("robot", "u1"));
        assert_eq!(robot.groups, ["ops", "dev", "system:authenticated"]);
        assert_eq!(tokens.user("other").unwrap().groups, ["system:authenticated"]);
        assert_eq!(tokens.user("t0k3"), None);
    }

    #[test]
    fn wrong_lines_are_named_without_their_token() {
        for (text, line) in [("a,b", 1), ("\nx,y,z,\"g", 2), (",y,z", 1), ("a,b,c\na,d,e", 2)] {
            assert_eq!(StaticTokens::parse(text).err().unwrap().line, line, "{text:?}");
        }
    }
}
