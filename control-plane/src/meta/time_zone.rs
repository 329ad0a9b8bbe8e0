//! Time zones by name. The database is a part of the program: a container that holds nothing else knows the same zones.
//! <https://www.iana.org/time-zones>

use std::sync::OnceLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The zone of this name, written as the database has it: `Europe/Berlin`, not `europe/berlin`.
pub fn named(name: &str) -> Option<TimeZone> {
    static DATABASE: OnceLock<TimeZoneDatabase> = OnceLock::new();
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let zone = DATABASE.get_or_init(TimeZoneDatabase::bundled).get(name).ok()?;
    (zone.iana_name() == Some(name)).then_some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_their_exact_names() {
        for name in [
            "UTC",
            "GMT",
            "Europe/Berlin",
            "America/Argentina/Ushuaia",
            "US/Pacific",
            "EST5EDT",
            "Etc/GMT+5",
        ] {
            assert!(named(name).is_some(), "{name}");
        }
        for name in
            ["", " ", "utc", "europe/berlin", "Europe/Atlantis", "+02:00", "../UTC", "Local", "Z"]
        {
            assert!(named(name).is_none(), "{name}");
        }
    }
}
