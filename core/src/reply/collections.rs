//! Collections: lists, sets, maps, tuples.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hash};

use super::{DecodeError, FromReply};
use crate::resp::{Items, View};

/// The elements of an aggregate as values of one type.
///
/// Room for all of them is made at once: they are there already, nothing is only declared.
#[inline]
pub(super) fn each<T: FromReply>(view: View<'_>) -> Result<Vec<T>, DecodeError> {
    let items = elements(view, "an array")?;
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        values.push(T::from_view(item).map_err(|error| error.at_index(values.len()))?);
    }
    Ok(values)
}

fn elements<'a>(view: View<'a>, expected: &'static str) -> Result<Items<'a>, DecodeError> {
    if view.kind().is_aggregate() {
        Ok(view.items())
    } else {
        Err(DecodeError::unexpected(expected, view))
    }
}

/// Gives every pair of a map, of a flat array, or of an array of pairs to `insert`, with the number
/// of pairs given to `start` before.
#[inline]
fn each_pair<K: FromReply, V: FromReply, C>(
    view: View<'_>,
    start: impl FnOnce(usize) -> C,
    insert: impl Fn(&mut C, K, V),
) -> Result<C, DecodeError> {
    let items = elements(view, "a map")?;
    let nested = !view.kind().is_paired()
        && items.clone().next().is_some_and(|first| first.kind().is_aggregate());
    if nested {
        let mut collection = start(items.len());
        for (index, item) in items.enumerate() {
            let (key, value) = <(K, V)>::from_view(item).map_err(|error| error.at_index(index))?;
            insert(&mut collection, key, value);
        }
        return Ok(collection);
    }
    if items.len() % 2 != 0 {
        return Err(DecodeError::unexpected("a map or an even number of elements", view));
    }
    let mut pairs = view.pairs();
    let mut collection = start(pairs.len());
    while let Some((key, value)) = pairs.next() {
        let index = items.len() / 2 - pairs.len() - 1;
        let key = K::from_view(key).map_err(|error| error.at_field(0).at_index(index))?;
        let value = V::from_view(value).map_err(|error| error.at_field(1).at_index(index))?;
        insert(&mut collection, key, value);
    }
    Ok(collection)
}

impl<T: FromReply> FromReply for Vec<T> {
    #[inline]
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        T::many_from_view(view)
    }
}

impl<T: FromReply> FromReply for VecDeque<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        T::many_from_view(view).map(VecDeque::from)
    }
}

impl<T: FromReply> FromReply for Box<[T]> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        T::many_from_view(view).map(Vec::into_boxed_slice)
    }
}

impl<T: FromReply, const N: usize> FromReply for [T; N] {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::unexpected(format!("an array of {N}"), view);
        T::many_from_view(view)?.try_into().map_err(|_| wrong())
    }
}

impl<T: FromReply + Ord> FromReply for BTreeSet<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        T::many_from_view(view).map(BTreeSet::from_iter)
    }
}

impl<K: FromReply + Ord, V: FromReply> FromReply for BTreeMap<K, V> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        each_pair(
            view,
            |_| BTreeMap::new(),
            |map, key, value| {
                map.insert(key, value);
            },
        )
    }
}

/// The hash collections, the standard library's and `hashbrown`'s, are made alike.
macro_rules! hash_collections {
    ($map:ident, $set:ident) => {
        impl<K, V, S> FromReply for $map<K, V, S>
        where
            K: FromReply + Hash + Eq,
            V: FromReply,
            S: BuildHasher + Default,
        {
            fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
                each_pair(
                    view,
                    |pairs| $map::with_capacity_and_hasher(pairs, S::default()),
                    |map, key, value| {
                        map.insert(key, value);
                    },
                )
            }
        }

        impl<T, S> FromReply for $set<T, S>
        where
            T: FromReply + Hash + Eq,
            S: BuildHasher + Default,
        {
            fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
                T::many_from_view(view).map(|items| items.into_iter().collect())
            }
        }
    };
}

mod hashed {
    use hashbrown::{HashMap, HashSet};

    use super::{BuildHasher, DecodeError, FromReply, Hash, View, each_pair};

    hash_collections!(HashMap, HashSet);
}

mod hashed_by_std {
    #![expect(
        clippy::disallowed_types,
        reason = "the caller asks for them, and hashes as it likes"
    )]

    use std::collections::{HashMap, HashSet};

    use super::{BuildHasher, DecodeError, FromReply, Hash, View, each_pair};

    hash_collections!(HashMap, HashSet);
}

impl<K: FromReply, V: FromReply> FromReply for (K, V) {
    #[inline]
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let mut items = tuple(view, 2)?;
        Ok((field(&mut items, view, 0)?, field(&mut items, view, 1)?))
    }

    #[inline]
    fn is_nothing(view: View<'_>) -> bool {
        view.kind().is_aggregate() && view.is_empty()
    }

    /// Pairs come as a map, as a flat array, or as an array of pairs.
    #[inline]
    fn many_from_view(view: View<'_>) -> Result<Vec<Self>, DecodeError> {
        each_pair(view, Vec::with_capacity, |pairs, key, value| pairs.push((key, value)))
    }
}

macro_rules! tuples {
    ($($len:literal: $($type:ident $index:literal),*;)*) => {$(
        impl<$($type: FromReply),*> FromReply for ($($type,)*) {
            fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
                let mut items = tuple(view, $len)?;
                Ok(($(field::<$type>(&mut items, view, $index)?,)*))
            }
        }
    )*};
}

tuples! {
    1: A 0;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}

/// The elements of an aggregate that must have exactly `len` of them.
#[inline]
fn tuple<'a>(view: View<'a>, len: usize) -> Result<Items<'a>, DecodeError> {
    if view.kind().is_aggregate() && view.elements() == len {
        return Ok(view.items());
    }
    Err(DecodeError::unexpected(format!("an array of {len}"), view))
}

#[inline]
fn field<T: FromReply>(
    items: &mut Items<'_>,
    whole: View<'_>,
    index: usize,
) -> Result<T, DecodeError> {
    match items.next() {
        Some(item) => T::from_view(item).map_err(|error| error.at_field(index)),
        None => Err(DecodeError::unexpected("one element more", whole)),
    }
}
