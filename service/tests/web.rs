//! What is served over the network: pages that a browser, a scraper and a dashboard take.

mod common;

use serde_json::Value;
use service::mock::{FakeAppliance, exposition};
use service::web::{Made, Page};

fn made(page: Made) -> String {
    let mut text = String::new();
    page.write(&FakeAppliance::default(), &mut text).expect("a string takes all");
    text
}

/// The expressions of a dashboard, wherever they stand.
fn expressions(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("expr" | "query", Value::String(text)) => into.push(text.clone()),
                    _ => expressions(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        _ => {}
    }
}

#[test]
fn the_dashboard_names_what_the_appliance_gives() {
    let families = exposition::parse(&made(Made::Metrics)).unwrap_or_else(|why| panic!("{why}"));
    let dashboard: Value = serde_json::from_str(include_str!("../../docs/grafana.json")).expect("JSON");
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    assert!(all.len() > 30, "{all:?}");
    for expression in &all {
        assert_eq!(exposition::unknown_in(expression, &families), Vec::<String>::new(), "{expression}");
    }
    // It would notice.
    for wrong in ["rate(untorn_read_total[1m])", "sum by (disk) (untorn_reads_total)", "untorn_reads_total{op=\"x\"}"] {
        assert_eq!(exposition::unknown_in(wrong, &families).len(), 1, "{wrong}");
    }
    // Panels lie beside each other, and each has a name of its own.
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut places: Vec<_> =
        panels.iter().map(|it| (it["gridPos"]["y"].as_u64(), it["gridPos"]["x"].as_u64())).collect();
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), count);
}

#[test]
fn every_metric_is_in_the_document() {
    let families = exposition::parse(&made(Made::Metrics)).unwrap_or_else(|why| panic!("{why}"));
    let document = include_str!("../../docs/metrics.md");
    let missing: Vec<_> = families.iter().filter(|it| !document.contains(&format!("`{}`", it.name))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_page_for_people_is_whole_without_a_script_and_asks_nobody_else() {
    let page = made(Made::Index);
    for part in ["pmem0s", "namespace0.0", "nqn.host", "export 1", "net0", "<p class=\"verdict ok\">ok</p>"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // What its policy forbids is not in it: code and style in the page, and other servers.
    for never in ["://", " style=", "<style", "onclick", "javascript:", "<iframe"] {
        assert!(!page.contains(never), "{never}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("<script src=\"/page.js\" defer></script>").count());
    for opened in ["section", "table", "tbody", "tr", "main", "header", "div", "ul"] {
        let count = |tag: String| page.matches(&tag).count();
        assert_eq!(
            count(format!("<{opened}>")) + count(format!("<{opened} ")),
            count(format!("</{opened}>")),
            "{opened}"
        );
    }
}

#[test]
fn what_the_page_needs_is_served_beside_it() {
    for path in ["/page.css", "/page.js", "/icon.svg"] {
        assert!(matches!(Page::at(path), Some(Page::Fixed(..))), "{path}");
    }
    for path in ["", "/index.html", "/metrics/", "//", "/../metrics"] {
        assert_eq!(Page::at(path), None, "{path}");
    }
    let data: Value = serde_json::from_str(&made(Made::Data)).expect("JSON");
    assert_eq!((&data["status"]["ok"], &data["health"]["ok"]), (&true.into(), &true.into()));
    // The script sets no markup.
    let Some(Page::Fixed(_, script)) = Page::at("/page.js") else { panic!("a script") };
    assert!(!script.contains("innerHTML") && !script.contains("eval("));
}
