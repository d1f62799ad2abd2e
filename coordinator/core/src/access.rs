//! Who may do what: whether a key allows a request, and which namespaces the request may touch. Values in, a decision out.
//!
//! [`ApiKey::allows`] decides what is known at once, by the route: whether the access is enough and the key's time not over. It gives a
//! [`Grant`], which goes along with the request, and says of each namespace that turns up whether it may be touched.

use crate::catalog::ApiKey;
use atoll_proto::Namespace;
use atoll_proto::key::KeyAccess;
use atoll_proto::key_namespaces::{KeyNamespaces, NamespacePattern};

/// Which namespaces a request may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant(
    /// None for all: nothing is looked at then.
    Option<KeyNamespaces>,
);

/// What a request touches, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched<'a> {
    /// One namespace.
    Namespace(&'a Namespace),
    /// All namespaces that begin so.
    Prefix(&'a str),
    /// All namespaces, or something that is made of all.
    All,
}

/// Why a key does not allow a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAllowed {
    /// Its time is over.
    Expired,
    /// Its access is not enough, or it is not for all namespaces, as what needs `admin` asks.
    Access,
}

impl Grant {
    /// To everything: where nobody is asked for a key, and for what a coordinator does of its own accord.
    pub fn everything() -> Self {
        Self(None)
    }

    /// To these namespaces.
    pub fn of(namespaces: &KeyNamespaces) -> Self {
        Self((!namespaces.are_all()).then(|| namespaces.clone()))
    }

    /// Whether all of that may be touched.
    pub fn covers(&self, touched: Touched<'_>) -> bool {
        let Some(namespaces) = &self.0 else { return true };
        match touched {
            Touched::Namespace(name) => namespaces.hold(name.as_str()),
            Touched::Prefix(prefix) => namespaces.hold_prefix(prefix),
            Touched::All => false,
        }
    }

    /// What may be touched of the namespaces that begin with `prefix`, in the order of their names; none twice.
    pub fn within<'a>(&'a self, prefix: &'a str) -> Vec<Touched<'a>> {
        let Some(namespaces) = &self.0 else {
            return vec![if prefix.is_empty() { Touched::All } else { Touched::Prefix(prefix) }];
        };
        let part = |pattern: &'a NamespacePattern| match pattern {
            NamespacePattern::One(name) => name.as_str().starts_with(prefix).then_some(Touched::Namespace(name)),
            NamespacePattern::Prefix(own) if own.as_str().starts_with(prefix) => Some(Touched::Prefix(own.as_str())),
            NamespacePattern::Prefix(own) => prefix.starts_with(own.as_str()).then_some(Touched::Prefix(prefix)),
        };
        namespaces.patterns().iter().filter_map(part).collect()
    }

    /// The namespaces; none if it is to everything.
    pub fn namespaces(&self) -> Option<&KeyNamespaces> {
        self.0.as_ref()
    }
}

impl ApiKey {
    /// Whether a request that needs `needed` may be carried out with it, and what that may touch.
    pub fn allows(&self, needed: KeyAccess, now_s: i64) -> Result<Grant, NotAllowed> {
        if self.is_expired(now_s) {
            return Err(NotAllowed::Expired);
        }
        let is_enough = match needed {
            KeyAccess::Read | KeyAccess::Write => self.access >= needed,
            KeyAccess::Admin => self.manages(),
        };
        if is_enough { Ok(Grant::of(&self.namespaces)) } else { Err(NotAllowed::Access) }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
