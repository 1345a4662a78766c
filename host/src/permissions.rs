//! Who may read and write the documents of a collection: its name says so (reference, section 2.5).
//!
//! `msgs_774_` ends in three digits, for the owner, the account and everyone; in each, bit 4 allows to read and bit 2 to write.
//! A name without them is `740`. What everyone may do in a collection named `pub_…` needs no signing in.

use crate::identity::Identity;

/// Bit of a digit that allows to read.
const READ: u8 = 4;

/// Bit of a digit that allows to write.
const WRITE: u8 = 2;

/// Digits for the owner, the account and everyone of a collection whose name has none.
const DEFAULT: [u8; 3] = [7, 4, 0];

/// Start of the names of collections that can be used without signing in.
const PUBLIC_PREFIX: &str = "pub_";

/// What a collection's name allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Who may read its documents.
    pub read: Level,
    /// Who may change and delete them.
    pub write: Level,
    /// Whether everyone includes anonymous callers.
    pub public: bool,
}

/// To whom something is allowed, each level including those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The user who created the document.
    Owner,
    /// The users of the account it belongs to.
    Account,
    /// The users of the tenant.
    Everyone,
}

/// Which documents of a collection something is allowed with, for one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None.
    Nothing,
    /// Those that the identity created.
    Own,
    /// Those of the identity's account.
    Account,
    /// All.
    Everything,
}

impl Permissions {
    /// The permissions of a collection.
    pub fn of(collection: &str) -> Self {
        let digits = digits(collection).unwrap_or(DEFAULT);
        let public = anonymous_may_use(collection);
        let read = if public { Level::Everyone } else { level(digits, READ) };
        Self { read, write: level(digits, WRITE), public }
    }

    /// Whether `who` may read a document of that account and owner.
    pub fn may_read(&self, who: &Identity, account: &str, owner: &str) -> bool {
        self.readable(who).contains(who, account, owner)
    }

    /// Whether `who` may change or delete a document of that account and owner.
    pub fn may_write(&self, who: &Identity, account: &str, owner: &str) -> bool {
        self.writable(who).contains(who, account, owner)
    }

    /// The documents that `who` may read.
    pub fn readable(&self, who: &Identity) -> Scope {
        self.scope(self.read, who)
    }

    /// The documents that `who` may change and delete.
    pub fn writable(&self, who: &Identity) -> Scope {
        self.scope(self.write, who)
    }

    /// Whether `who` may create documents: everybody who is signed in may, in every collection.
    pub fn may_create(&self, who: &Identity) -> bool {
        who.is_root() || self.public || !who.is_anonymous()
    }

    fn scope(&self, level: Level, who: &Identity) -> Scope {
        if who.is_root() {
            return Scope::Everything;
        }
        // A document made without signing in has no account and no owner, which nobody may pass for.
        let nobody = who.is_anonymous() || who.account.is_empty();
        match level {
            Level::Everyone if self.public || !who.is_anonymous() => Scope::Everything,
            Level::Account if !nobody => Scope::Account,
            Level::Owner if !nobody => Scope::Own,
            Level::Everyone | Level::Account | Level::Owner => Scope::Nothing,
        }
    }
}

impl Scope {
    fn contains(self, who: &Identity, account: &str, owner: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Own => who.account == account && who.user == owner,
            Self::Account => who.account == account,
            Self::Everything => true,
        }
    }
}

/// Whether a collection can be used without signing in.
pub fn anonymous_may_use(collection: &str) -> bool {
    collection.starts_with(PUBLIC_PREFIX)
}

/// The digits of a name that ends in `_ddd_`.
fn digits(collection: &str) -> Option<[u8; 3]> {
    match collection.as_bytes() {
        [.., b'_', owner @ b'0'..=b'9', account @ b'0'..=b'9', everyone @ b'0'..=b'9', b'_'] => {
            Some([owner - b'0', account - b'0', everyone - b'0'])
        }
        _ => None,
    }
}

/// The owner's digit is never looked at: the owner may do everything that is not left to a wider circle.
fn level([_, account, everyone]: [u8; 3], bit: u8) -> Level {
    if everyone & bit != 0 {
        Level::Everyone
    } else if account & bit != 0 {
        Level::Account
    } else {
        Level::Owner
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What holds for every collection, whatever it is called.
    fn check(collection: &str) {
        let permissions = Permissions::of(collection);
        let (owner, colleague, stranger) = (user("a", "ann"), user("a", "ben"), user("b", "cleo"));
        let root = Identity { role: crate::identity::ROOT_ROLE, ..user("r", "root") };
        let nobody = Identity::anonymous("tenant".into());
        let reads = [&root, &owner, &colleague, &stranger].map(|who| permissions.may_read(who, "a", "ann"));
        let writes = [&root, &owner, &colleague, &stranger].map(|who| permissions.may_write(who, "a", "ann"));
        assert!(
            reads[..2] == [true, true] && writes[..2] == [true, true],
            "{collection:?}: root and owner may everything"
        );
        assert!(reads[2] >= reads[3] && writes[2] >= writes[3], "{collection:?}: colleagues may what strangers may");
        if !anonymous_may_use(collection) {
            let seen = permissions.may_read(&nobody, "a", "ann") || permissions.may_write(&nobody, "a", "ann");
            assert!(!seen || reads[3] || writes[3], "{collection:?}: nobody may what strangers may not");
            assert!(!permissions.may_create(&nobody), "{collection:?}");
        }
        if digits(collection).is_none() && !anonymous_may_use(collection) {
            assert_eq!((reads[2], reads[3], writes[2], writes[3]), (true, false, false, false), "{collection:?}: 740");
        }
    }

    #[test]
    fn the_names_in_the_corpus_keep_the_rules() {
        crate::corpus::texts("permissions").iter().for_each(|(_, collection)| check(collection));
    }

    proptest! {
        #[test]
        fn any_name_keeps_the_rules(name in ".*", digits in "_?[0-9]{2,4}_?", public in any::<bool>()) {
            check(&name);
            check(&format!("{}{name}{digits}", if public { "pub_" } else { "" }));
        }
    }

    fn user(account: &str, user: &str) -> Identity {
        Identity {
            tenant: "tenant".into(),
            account: account.into(),
            user: user.into(),
            email: format!("{user}@example.com"),
            role: 0,
        }
    }

    /// What others may do with a document of owner `ann` in account `one`: read and write of the same account, then of others.
    fn table(collection: &str) -> [bool; 4] {
        let permissions = Permissions::of(collection);
        let (colleague, stranger) = (user("one", "bob"), user("two", "eve"));
        [
            permissions.may_read(&colleague, "one", "ann"),
            permissions.may_write(&colleague, "one", "ann"),
            permissions.may_read(&stranger, "one", "ann"),
            permissions.may_write(&stranger, "one", "ann"),
        ]
    }

    #[test]
    fn the_name_decides() {
        for (names, expected) in [
            (&["tasks", "x_740_", "x_774", "x_77_", "x_7745_", "_774_x", ""][..], [true, false, false, false]),
            (&["x_700_", "x_000_"], [false, false, false, false]),
            (&["x_760_", "x_770_"], [true, true, false, false]),
            (&["x_744_", "x_244_"], [true, false, true, false]),
            (&["x_764_", "x_774_", "msgs_774_", "_774_", "x__774_"], [true, true, true, false]),
            (&["x_766_", "x_776_", "x_226_", "x_662_0_226_"], [true, true, true, true]),
            (&["x_662_"], [true, true, false, true]),
            (&["x_772_"], [true, true, false, true]),
            (&["x_790_"], [false, false, false, false]),
            (&["pub_x"], [true, false, true, false]),
            (&["pub_x_700_"], [true, false, true, false]),
            (&["pub_x_760_"], [true, true, true, false]),
            (&["pub_x_776_"], [true, true, true, true]),
        ] {
            for name in names {
                assert_eq!(table(name), expected, "{name}");
            }
        }
    }

    #[test]
    fn the_owner_and_root_may_do_everything() {
        let root = Identity { role: 100, ..user("other", "root") };
        for name in ["tasks", "x_000_", "x_700_", "x_774_", "pub_x", "pub_x_000_"] {
            for who in [user("one", "ann"), root.clone()] {
                assert!(Permissions::of(name).may_read(&who, "one", "ann"), "{name}");
                assert!(Permissions::of(name).may_write(&who, "one", "ann"), "{name}");
            }
        }
    }

    #[test]
    fn an_owner_is_the_same_user_in_the_same_account() {
        let permissions = Permissions::of("x_700_");

        assert!(!permissions.may_read(&user("two", "ann"), "one", "ann"));
        assert!(!permissions.may_write(&user("two", "ann"), "one", "ann"));
    }

    #[test]
    fn an_anonymous_caller_reads_what_is_public_and_owns_nothing() {
        let nobody = Identity::anonymous("tenant".into());
        for (name, read, write) in [
            ("tasks", false, false),
            ("x_776_", false, false),
            ("x_700_", false, false),
            ("pub_x", true, false),
            ("pub_x_760_", true, false),
            ("pub_x_776_", true, true),
        ] {
            let permissions = Permissions::of(name);
            for (account, owner) in [("one", "ann"), ("", "")] {
                assert_eq!(permissions.may_read(&nobody, account, owner), read, "{name}");
                assert_eq!(permissions.may_write(&nobody, account, owner), write, "{name}");
            }
        }
    }

    #[test]
    fn nobody_who_is_signed_in_owns_an_anonymous_document() {
        let permissions = Permissions::of("pub_x");

        assert!(permissions.may_read(&user("one", "ann"), "", ""));
        assert!(!permissions.may_write(&user("one", "ann"), "", ""));
        assert!(!permissions.may_write(&user("", "ann"), "", ""));
    }

    #[test]
    fn everybody_who_is_signed_in_may_create_everywhere() {
        let nobody = Identity::anonymous("tenant".into());

        assert!(Permissions::of("x_000_").may_create(&user("one", "ann")));
        assert!(!Permissions::of("tasks").may_create(&nobody));
        assert!(Permissions::of("pub_x").may_create(&nobody));
        assert!(!anonymous_may_use("xpub_x"));
    }
}
