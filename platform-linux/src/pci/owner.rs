//! Users and groups by name.

use super::system::System;
use crate::error::Error;

/// Whom a device node is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's id.
    pub user: Option<u32>,
    /// The group's id; the node keeps its group without one.
    pub group: Option<u32>,
}

impl System {
    /// Reads `USER`, `USER:GROUP` or `:GROUP`, each a name or a number.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a name that /etc/passwd or /etc/group does not have.
    pub fn owner(&self, text: &str) -> Result<Owner, Error> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() && group.is_empty() {
            return Err(Error::usage("an owner is USER, USER:GROUP or :GROUP"));
        }
        Ok(Owner {
            user: self.id_of(user, "user", "etc/passwd")?,
            group: self.id_of(group, "group", "etc/group")?,
        })
    }

    /// Both files have the name first and the id third, between colons (passwd(5), group(5)).
    fn id_of(&self, name: &str, what: &str, file: &str) -> Result<Option<u32>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        if let Ok(id) = name.parse() {
            return Ok(Some(id));
        }
        let text = self.text(file).unwrap_or_default();
        let id = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        });
        id.map(Some).ok_or_else(|| {
            Error::usage(format!(
                "there is no {what} {name:?} in /{file}; give one from elsewhere by its number \
                 (see `id`)"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::fake::Machine;

    #[test]
    fn owners_are_names_or_numbers() {
        let machine = Machine::new();
        machine.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1001:100::/:/bin/sh\n");
        machine.file("etc/group", "root:x:0:\ndisk:x:6:ann\n");
        let owner = |text| machine.system().owner(text);
        assert_eq!(owner("ann"), Ok(Owner { user: Some(1001), group: None }));
        assert_eq!(owner("ann:disk"), Ok(Owner { user: Some(1001), group: Some(6) }));
        assert_eq!(owner(":disk"), Ok(Owner { user: None, group: Some(6) }));
        assert_eq!(owner("70000:7"), Ok(Owner { user: Some(70_000), group: Some(7) }));
        let error = owner("bob").expect_err("nobody of that name").to_string();
        assert!(error.contains("\"bob\"") && error.contains("by its number"), "{error}");
        assert!(owner(":").is_err());
    }
}
