//! Places: members of a sorted set whose scores are where they lie on the earth.

use super::{Run, Spec};
use crate::{
    args::{Arg, ToArg, ToArgs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands on places.
///
/// They are kept in a sorted set, so [`SortedSets`](super::SortedSets) deletes them and counts them.
/// Positions are rounded to about half a metre.
pub trait Geo: Run {
    /// Adds places or moves them, one or many, and gives how many are new:
    /// `geoadd("cities", [("Palermo", GeoPoint::new(13.361389, 38.115556))])`. O(log places) each.
    /// Since 3.2.
    fn geoadd<M: ToArg>(&self, key: impl ToArg, places: &[(M, GeoPoint)]) -> Self::Pending<u64> {
        self.geoadd_with(key, places, GeoAddOptions::new())
    }

    /// Adds places or moves them as `options` say, and gives how many are new; with
    /// [`changed`](GeoAddOptions::changed) how many are new or were moved. O(log places) each. Since 6.2.
    fn geoadd_with<M: ToArg>(
        &self,
        key: impl ToArg,
        places: &[(M, GeoPoint)],
        options: GeoAddOptions,
    ) -> Self::Pending<u64> {
        let geoadd = options.onto(Request::of(const { Spec::of("GEOADD") }).key(&key));
        self.run(places.iter().fold(geoadd, |geoadd, (member, at)| {
            geoadd.arg(&at.longitude).arg(&at.latitude).arg(member)
        }))
    }

    /// How far two places are from each other, or `None` where one of them is not there. O(1). Since 3.2.
    fn geodist(
        &self,
        key: impl ToArg,
        one: impl ToArg,
        other: impl ToArg,
        unit: GeoUnit,
    ) -> Self::Pending<Option<f64>> {
        let geodist = Request::of(const { Spec::of("GEODIST") }).key(&key);
        self.run(geodist.arg(&one).arg(&other).arg(unit.word()))
    }

    /// The geohashes of places, in their order, each `None` where it is not there. O(members given).
    /// Since 3.2.
    fn geohash(&self, key: impl ToArg, members: impl ToArgs) -> Self::Pending<Vec<Option<String>>> {
        self.run(Request::of(const { Spec::of("GEOHASH") }).key(&key).args(&members))
    }

    /// Where places are, in their order, each `None` where it is not there. O(members given). Since 3.2.
    fn geopos(
        &self,
        key: impl ToArg,
        members: impl ToArgs,
    ) -> Self::Pending<Vec<Option<GeoPoint>>> {
        self.run(Request::of(const { Spec::of("GEOPOS") }).key(&key).args(&members))
    }

    /// The places in an area, into a `Vec` or a set. O(places around). Since 6.2.
    fn geosearch<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        search: GeoSearch,
    ) -> Self::Pending<T> {
        let geosearch = Request::of(const { Spec::of("GEOSEARCH") }).key(&key);
        self.run(search.onto(geosearch))
    }

    /// The places in an area, with where they are and how far from its middle. O(places around). Since 6.2.
    fn geosearch_places<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        search: GeoSearch,
    ) -> Self::Pending<Vec<FoundPlace<T>>> {
        let geosearch = Request::of(const { Spec::of("GEOSEARCH") }).key(&key);
        self.run(search.onto(geosearch).arg("WITHCOORD").arg("WITHDIST"))
    }

    /// Writes the places in an area over whatever is at `to`, and gives how many there are. O(places
    /// around). Since 6.2.
    fn geosearchstore(
        &self,
        to: impl ToArg,
        from: impl ToArg,
        search: GeoSearch,
    ) -> Self::Pending<u64> {
        let geosearchstore = Request::of(const { Spec::of("GEOSEARCHSTORE") });
        self.run(search.onto(geosearchstore.key(&to).key(&from)))
    }
}

impl<R: Run + ?Sized> Geo for R {}

/// A point on the earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoPoint {
    /// East of Greenwich, from -180 to 180.
    pub longitude: f64,
    /// North of the equator, from -85.05112878 to 85.05112878.
    pub latitude: f64,
}

impl GeoPoint {
    /// The point at this longitude and latitude, in the order in which servers take them.
    #[must_use]
    pub const fn new(longitude: f64, latitude: f64) -> Self {
        GeoPoint { longitude, latitude }
    }
}

impl FromReply for GeoPoint {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (longitude, latitude) = FromReply::from_view(view)?;
        Ok(GeoPoint { longitude, latitude })
    }
}

/// A place that was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FoundPlace<T> {
    /// What it is called.
    pub member: T,
    /// How far it is from the middle of the area, in the unit of the search.
    pub distance: f64,
    /// Where it is.
    pub at: GeoPoint,
}

impl<T: FromReply> FromReply for FoundPlace<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (member, distance, at) = FromReply::from_view(view)?;
        Ok(FoundPlace { member, distance, at })
    }
}

/// A unit of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeoUnit {
    /// Metres.
    Metres,
    /// Kilometres.
    Kilometres,
    /// Miles.
    Miles,
    /// Feet.
    Feet,
}

impl GeoUnit {
    fn word(self) -> &'static str {
        match self {
            GeoUnit::Metres => "m",
            GeoUnit::Kilometres => "km",
            GeoUnit::Miles => "mi",
            GeoUnit::Feet => "ft",
        }
    }
}

/// Which places GEOADD touches, and what it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeoAddOptions {
    existing: Option<&'static str>,
    changed: bool,
}

impl GeoAddOptions {
    /// All of them, counting the new ones: as plain GEOADD does.
    #[must_use]
    pub fn new() -> Self {
        GeoAddOptions::default()
    }

    /// Only places that are not there yet. Replaces `xx`.
    #[must_use]
    pub fn nx(self) -> Self {
        GeoAddOptions { existing: Some("NX"), ..self }
    }

    /// Only places that are there already. Replaces `nx`.
    #[must_use]
    pub fn xx(self) -> Self {
        GeoAddOptions { existing: Some("XX"), ..self }
    }

    /// Counts those that were moved as well as the new ones.
    #[must_use]
    pub fn changed(self) -> Self {
        GeoAddOptions { changed: true, ..self }
    }

    fn onto(self, request: Request<'_>) -> Request<'_> {
        let request = match self.existing {
            Some(existing) => request.arg(existing),
            None => request,
        };
        if self.changed { request.arg("CH") } else { request }
    }
}

/// An area around a middle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// All within this distance.
    Radius(f64),
    /// A box of this width and height.
    Box(f64, f64),
}

/// Where to look for places, and how many are wanted.
///
/// ```
/// # use unfazed_core as unfazed_tokio;
/// use unfazed_tokio::prelude::*;
///
/// let palermo = GeoPoint::new(13.361389, 38.115556);
/// let near = GeoSearch::around(palermo, Area::Radius(200.0), GeoUnit::Kilometres).nearest_first();
/// # let _ = near;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing by itself"]
pub struct GeoSearch {
    words: Vec<Arg<'static>>,
}

impl GeoSearch {
    /// An area around a point.
    pub fn around(middle: GeoPoint, area: Area, unit: GeoUnit) -> Self {
        let words =
            vec![Arg::from("FROMLONLAT"), number(middle.longitude), number(middle.latitude)];
        GeoSearch { words }.within(area, unit)
    }

    /// An area around one of the places.
    pub fn around_member(member: impl ToArg, area: Area, unit: GeoUnit) -> Self {
        let member = Arg::from(member.to_arg().as_bytes().to_vec());
        GeoSearch { words: vec![Arg::from("FROMMEMBER"), member] }.within(area, unit)
    }

    fn within(self, area: Area, unit: GeoUnit) -> Self {
        let unit = Arg::from(unit.word());
        match area {
            Area::Radius(radius) => self.and([Arg::from("BYRADIUS"), number(radius), unit]),
            Area::Box(width, height) => {
                self.and([Arg::from("BYBOX"), number(width), number(height), unit])
            }
        }
    }

    /// The nearest first.
    pub fn nearest_first(self) -> Self {
        self.and([Arg::from("ASC")])
    }

    /// The farthest first.
    pub fn farthest_first(self) -> Self {
        self.and([Arg::from("DESC")])
    }

    /// Up to so many of them, the nearest ones unless the farthest are to come first.
    pub fn count(self, count: u64) -> Self {
        self.and([Arg::from("COUNT"), Arg::from(count.to_string())])
    }

    /// Up to so many of them, whichever are found first, which is faster.
    pub fn any(self, count: u64) -> Self {
        self.and([Arg::from("COUNT"), Arg::from(count.to_string()), Arg::from("ANY")])
    }

    fn and<const N: usize>(mut self, words: [Arg<'static>; N]) -> Self {
        self.words.extend(words);
        self
    }

    fn onto<'r>(&'r self, request: Request<'r>) -> Request<'r> {
        request.args(&self.words)
    }
}

fn number(number: f64) -> Arg<'static> {
    Arg::from(number.to_arg().as_bytes().to_vec())
}
