//! One entry at a time: put, patch and delete, each under a condition if the client names one.

use super::check::{self, Parts};
use super::{WriteTerms, Writer, outcome, with_retries};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::delete::{self, DeleteOutcome};
use crate::workers::patch::{self, Stored};
use crate::workers::write::{self, RowOutcome, WriteRow, WriteRule};
use atoll_core::freshness::MarkSet;
use atoll_proto::CollectionName;
use atoll_proto::entry::{EntryBody, EntryId, EntryPatch, Metadata, WriteStatus};
use serde_json::Value;

/// When a write may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Always.
    None,
    /// `If-Match: "7"`: only at this version.
    AtVersion(i64),
    /// `If-Match: *`: only if it exists.
    Exists,
    /// `If-None-Match: *`: only if it does not.
    Absent,
}

impl Writer {
    /// Writes one entry; says what became of it and its version.
    pub async fn put(
        &self,
        collection: &CollectionName,
        id: &EntryId,
        body: EntryBody,
        precondition: Precondition,
        terms: &WriteTerms,
    ) -> Result<(WriteStatus, i64), RequestError> {
        let target = self.target_of_one(collection, id, terms)?;
        let EntryBody { value, vector, metadata, tags } = body;
        let mut errors = Vec::new();
        let parts =
            Parts { value: value.as_deref(), metadata: Some(&metadata), tags: Some(&tags), vector: vector.as_ref() };
        check::entry(&parts, &target.collection.settings, "", &mut errors);
        if !errors.is_empty() {
            return Err(RequestError::Invalid(errors));
        }
        self.claim(&target, terms).await?;
        let row =
            WriteRow { namespace: id.namespace.to_string(), key: id.key.to_string(), value, metadata, tags, vector };
        let rule = match precondition {
            Precondition::None => WriteRule::Upsert,
            Precondition::AtVersion(version) => WriteRule::AtVersion(version),
            Precondition::Exists => WriteRule::UpdateOnly,
            Precondition::Absent => WriteRule::InsertOnly,
        };
        match self.write_one(&target, id, row, rule, terms).await? {
            RowOutcome::Created(version) => Ok((WriteStatus::Created, version)),
            RowOutcome::Updated(version) => Ok((WriteStatus::Updated, version)),
            RowOutcome::Unchanged(version) => Ok((WriteStatus::Unchanged, version)),
            RowOutcome::Exists(version) => Err(RequestError::VersionMismatch { current: Some(version) }),
            RowOutcome::Missing => match precondition {
                Precondition::None | Precondition::Absent => {
                    Err(RequestError::invalid("/vector", "a new entry of this collection needs its vector"))
                }
                Precondition::AtVersion(_) | Precondition::Exists => {
                    Err(RequestError::VersionMismatch { current: None })
                }
            },
        }
    }

    /// Changes parts of one entry; says what became of it and its version.
    pub async fn patch(
        &self,
        collection: &CollectionName,
        id: &EntryId,
        patch: EntryPatch,
        precondition: Precondition,
        terms: &WriteTerms,
    ) -> Result<(WriteStatus, i64), RequestError> {
        let target = self.target_of_one(collection, id, terms)?;
        let settings = &target.collection.settings;
        let mut errors = Vec::new();
        let value = patch.value.as_ref().and_then(|value| value.as_deref());
        let parts = Parts { value, metadata: None, tags: patch.tags.as_deref(), vector: patch.vector.as_ref() };
        check::entry(&parts, settings, "", &mut errors);
        if !errors.is_empty() {
            return Err(RequestError::Invalid(errors));
        }
        let at_version = match precondition {
            Precondition::AtVersion(version) => Some(version),
            Precondition::None | Precondition::Exists => None,
            Precondition::Absent => return Err(RequestError::invalid("", "If-None-Match makes no sense for a patch")),
        };
        self.claim(&target, terms).await?;
        let change = &|stored: Stored| {
            let row = patched(id, stored, &patch);
            let mut errors = Vec::new();
            let parts = Parts { value: None, metadata: Some(&row.metadata), tags: None, vector: None };
            check::entry(&parts, settings, "", &mut errors);
            if errors.is_empty() { Ok(row) } else { Err(errors) }
        };
        let place = target.place(&self.workers, target.route(&id.namespace)?);
        let copies = self.copies(&target, terms.deadline).await?;
        let write = |place: Place| async move {
            patch::patch(&place.pool, &place.table, id, at_version, change, terms.ticket(), terms.deadline).await
        };
        let patched = with_retries(self, terms.of_part(), touched(&target, id), &place, write)
            .await
            .map_err(|error| place.write_error(error))?;
        let outcome = outcome(patched.map_err(RequestError::Invalid)?)?;
        if let Some(copies) = copies {
            copies.spread(std::slice::from_ref(id), terms.deadline).await?;
        }
        match outcome {
            RowOutcome::Created(version) | RowOutcome::Updated(version) => Ok((WriteStatus::Updated, version)),
            RowOutcome::Unchanged(version) => Ok((WriteStatus::Unchanged, version)),
            RowOutcome::Exists(version) => Err(RequestError::VersionMismatch { current: Some(version) }),
            RowOutcome::Missing => match precondition {
                Precondition::None | Precondition::Absent => Err(RequestError::EntryNotFound),
                Precondition::AtVersion(_) | Precondition::Exists => {
                    Err(RequestError::VersionMismatch { current: None })
                }
            },
        }
    }

    /// Removes one entry.
    pub async fn delete(
        &self,
        collection: &CollectionName,
        id: &EntryId,
        precondition: Precondition,
        terms: &WriteTerms,
    ) -> Result<(), RequestError> {
        let target = self.target_of_one(collection, id, terms)?;
        self.claim(&target, terms).await?;
        let at_version = match precondition {
            Precondition::AtVersion(version) => Some(version),
            Precondition::None | Precondition::Exists => None,
            Precondition::Absent => return Err(RequestError::invalid("", "If-None-Match makes no sense for a delete")),
        };
        let place = target.place(&self.workers, target.route(&id.namespace)?);
        let write = |place: Place| async move {
            delete::one(&place.pool, &place.table, id, at_version, terms.ticket(), terms.deadline).await
        };
        let copies = self.copies(&target, terms.deadline).await?;
        let replay = with_retries(self, terms.of_part(), touched(&target, id), &place, write)
            .await
            .map_err(|error| place.write_error(error))?;
        let outcome = outcome(replay)?;
        if let Some(copies) = copies {
            copies.spread(std::slice::from_ref(id), terms.deadline).await?;
        }
        match outcome {
            DeleteOutcome::Gone => Ok(()),
            DeleteOutcome::Missing if precondition != Precondition::None => {
                Err(RequestError::VersionMismatch { current: None })
            }
            DeleteOutcome::Missing => Err(RequestError::EntryNotFound),
            DeleteOutcome::OtherVersion(version) => Err(RequestError::VersionMismatch { current: Some(version) }),
        }
    }

    fn target_of_one(
        &self,
        collection: &CollectionName,
        id: &EntryId,
        terms: &WriteTerms,
    ) -> Result<Target, RequestError> {
        let target = Target::find(&self.views, collection, &terms.grant)?;
        target.permit_each(std::iter::once(&id.namespace))?;
        Ok(target)
    }

    async fn write_one(
        &self,
        target: &Target,
        id: &EntryId,
        row: WriteRow,
        rule: WriteRule,
        terms: &WriteTerms,
    ) -> Result<RowOutcome, RequestError> {
        let place = target.place(&self.workers, target.route(&id.namespace)?);
        let copies = self.copies(target, terms.deadline).await?;
        let rows = &[row];
        let write = |place: Place| async move {
            write::write(&place.pool, &place.table, rows, rule, terms.ticket(), terms.deadline).await
        };
        let replay = with_retries(self, terms.of_part(), touched(target, id), &place, write)
            .await
            .map_err(|error| place.write_error(error))?;
        let outcomes = outcome(replay)?;
        if let Some(copies) = copies {
            copies.spread(std::slice::from_ref(id), terms.deadline).await?;
        }
        Ok(outcomes.first().copied().unwrap_or(RowOutcome::Missing))
    }
}

fn touched(target: &Target, id: &EntryId) -> MarkSet {
    MarkSet::of_write(&target.name, [id.namespace.as_str()])
}

fn patched(id: &EntryId, stored: Stored, patch: &EntryPatch) -> WriteRow {
    let Stored { value, mut metadata, tags } = stored;
    if let Some(changes) = &patch.metadata {
        merge(&mut metadata, changes);
    }
    WriteRow {
        namespace: id.namespace.to_string(),
        key: id.key.to_string(),
        value: patch.value.clone().unwrap_or(value),
        metadata,
        tags: patch.tags.clone().unwrap_or(tags),
        vector: patch.vector.clone(),
    }
}

/// RFC 7396: null removes a member, an object is merged, anything else replaces.
fn merge(target: &mut Metadata, changes: &Metadata) {
    for (name, change) in changes {
        match change {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(changes) => {
                let member = target.entry(name.clone()).or_insert(Value::Null);
                if !member.is_object() {
                    *member = Value::Object(Metadata::new());
                }
                if let Value::Object(member) = member {
                    merge(member, changes);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                target.insert(name.clone(), change.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn merges_as_the_rfc_says() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (target, patch, result) in cases {
            let mut merged = target.as_object().unwrap().clone();
            merge(&mut merged, patch.as_object().unwrap());
            assert_eq!(Value::Object(merged), result, "{target} {patch}");
        }
    }
}
