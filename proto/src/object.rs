//! Bodies that are JSON objects and nothing else. What serde derives for a struct also takes an array of its fields in their
//! order, which no client is told of and which would tie the API to an order nobody sees.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a struct from an object; `from_map` is what serde derived for it.
pub(crate) trait FromObject<'de>: Sized {
    /// Reads the struct from the members of an object.
    fn from_members<A: MapAccess<'de>>(members: MapAccessDeserializer<A>) -> Result<Self, A::Error>;
}

pub(crate) fn object<'de, T: FromObject<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: FromObject<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::from_members(MapAccessDeserializer::new(members))
    }
}

/// Makes structs with `#[serde(remote = "Self")]`, whose derived functions are their own and no traits', readable from objects.
macro_rules! only_objects {
    ($($name:ident),* $(,)?) => {
        $(
            impl<'de> crate::object::FromObject<'de> for $name {
                fn from_members<A: serde::de::MapAccess<'de>>(
                    members: serde::de::value::MapAccessDeserializer<A>,
                ) -> Result<Self, A::Error> {
                    // The derived function, not the trait's: a type's own comes first.
                    Self::deserialize(members)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    crate::object::object(deserializer)
                }
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Self::serialize(self, serializer)
                }
            }
        )*
    };
}

pub(crate) use only_objects;

#[cfg(test)]
mod tests {
    use crate::collection::CollectionSettings;
    use crate::entry::{EntryId, NewEntry, WriteBatch};
    use crate::filter::Filter;
    use crate::search::SearchRequest;

    #[test]
    fn an_array_is_no_object_wherever_it_stands() {
        assert!(serde_json::from_str::<EntryId>(r#"{"namespace":"n","key":"k"}"#).is_ok());
        assert!(serde_json::from_str::<EntryId>(r#"["n","k"]"#).is_err());
        assert!(serde_json::from_str::<NewEntry>(r#"["n","k",null,[1.0],{},[]]"#).is_err());
        assert!(serde_json::from_str::<WriteBatch>(r#"{"entries":[["n","k"]]}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"must":[[null,"key","k"]]}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"must":[{"field":"key","range":["a"]}]}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"must":[{"filter":[]}]}"#).is_err());
        for bad in [r#"{"like":["n","k"],"all":true}"#, r#"{"vector":[1],"all":true,"partial":[true]}"#] {
            assert!(serde_json::from_str::<SearchRequest>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<CollectionSettings>(r#"{"dimensions":3,"index":["speed"]}"#).is_err());
    }

    #[test]
    fn unknown_members_are_still_refused() {
        let wrong = serde_json::from_str::<EntryId>(r#"{"namespace":"n","key":"k","colour":1}"#);
        assert!(wrong.is_err_and(|error| error.to_string().contains("colour")));
    }
}
