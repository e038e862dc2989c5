//! The pages that the appliance serves over its network, read-only: one for people, and what that page and Prometheus read.
//!
//! | path | is |
//! |---|---|
//! | `/` | a page for people: health, disks, namespaces, who uses them; whole without a script, and with plots by one |
//! | `/metrics` | the counters in Prometheus's text format |
//! | `/data.json` | the replies of `status`, `health` and `stats`, as in machine mode |
//! | `/page.css`, `/page.js`, `/icon.svg` | what the page needs: it asks no other server for anything |

mod index;

use core::fmt;

use crate::admin::{AnyAppliance, prometheus, reply};

/// A page that is made anew each time, from what the appliance is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The page for people.
    Index,
    /// Prometheus's.
    Metrics,
    /// Its data.
    Data,
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// One that is made anew.
    Made(Made),
    /// One that is always the same: its type, and itself.
    Fixed(&'static str, &'static str),
}

impl Page {
    /// Returns the page of a path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Made(Made::Index),
            "/metrics" => Self::Made(Made::Metrics),
            "/data.json" => Self::Made(Made::Data),
            "/page.css" => Self::Fixed("text/css; charset=utf-8", include_str!("page.css")),
            "/page.js" => Self::Fixed("text/javascript; charset=utf-8", include_str!("page.js")),
            "/icon.svg" => Self::Fixed("image/svg+xml", include_str!("icon.svg")),
            _ => return None,
        })
    }
}

impl Made {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Index, Self::Metrics, Self::Data];

    /// Its type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Index => "text/html; charset=utf-8",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Data => "application/json",
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(self, appliance: &AnyAppliance, out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::Index => index::write(&appliance.stats(), &appliance.health(), out),
            Self::Metrics => prometheus::write(&appliance.stats(), out),
            Self::Data => {
                out.write_str("{\"status\":")?;
                reply::write_json(None, &Ok(appliance.status().into()), out)?;
                out.write_str(",\"health\":")?;
                reply::write_json(None, &Ok(appliance.health().into()), out)?;
                out.write_str(",\"stats\":")?;
                reply::write_json(None, &Ok(appliance.stats().into()), out)?;
                out.write_str("}")
            }
        }
    }
}
