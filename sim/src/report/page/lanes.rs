//! Which lane is where: the network, the server, then each service with its clients.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::svg::{Svg, escape};
use crate::checker::History;
use crate::report::Report;
use crate::trace::Event;

/// More clients than this are left out of the drawing, but for those that a violation names.
const CLIENTS_MAX: usize = 200;

/// Heights in pixels.
const OF_NETWORK: u32 = 46;
const OF_SERVER: u32 = 31;
const WIDE: u32 = 26;
const NARROW: u32 = 17;

/// A row of the page.
struct Row {
    y: u32,
    height: u32,
    class: String,
    label: String,
    aside: String,
}

/// All rows.
pub(super) struct Lanes {
    rows: Vec<Row>,
    /// The place of each client that is drawn.
    pub(super) clients: BTreeMap<u32, u32>,
    /// The place of each service.
    pub(super) services: BTreeMap<String, u32>,
    /// The place of the network.
    pub(super) network: u32,
    /// The place of the server.
    pub(super) server: u32,
    /// Clients that are not drawn.
    pub(super) hidden: usize,
    /// Of all rows together.
    pub(super) height: u32,
}

impl Lanes {
    pub(super) fn new(history: &History<'_>, report: &Report) -> Self {
        let mut lanes = Self {
            rows: Vec::new(),
            clients: BTreeMap::new(),
            services: BTreeMap::new(),
            network: 0,
            server: 0,
            hidden: 0,
            height: 0,
        };
        lanes.network = lanes.push(OF_NETWORK, "outside", "network", "faults");
        lanes.server = lanes.push(OF_SERVER, "outside", "server", "faults, drain");
        let mut drawn = 0;
        for (index, service) in services(history).into_iter().enumerate() {
            let y = lanes.push(
                WIDE,
                &format!("service s{}", index % 6),
                &service,
                "service",
            );
            for (client, life) in history.clients_of(&service) {
                let name = format!("client {client}");
                let is_named = |text: &str| text.starts_with(&format!("{name} "));
                let mut violations = report.violations.iter();
                drawn += 1;
                if drawn > CLIENTS_MAX && !violations.any(|v| is_named(&v.breach.text)) {
                    lanes.hidden += 1;
                    continue;
                }
                let class = format!("client s{}", index % 6);
                let y = lanes.push(NARROW, &class, &name, &format!("zone {}", life.zone));
                lanes.clients.insert(client, y);
            }
            lanes.services.insert(service, y);
        }
        lanes
    }

    fn push(&mut self, height: u32, class: &str, label: &str, aside: &str) -> u32 {
        let y = self.height;
        self.height += height;
        self.rows.push(Row {
            y,
            height,
            class: class.to_owned(),
            label: label.to_owned(),
            aside: aside.to_owned(),
        });
        y
    }

    /// The middle of a client's lane.
    pub(super) fn client(&self, client: u32) -> Option<u32> {
        self.clients.get(&client).map(|y| y + NARROW / 2)
    }

    /// The middle of a service's lane.
    pub(super) fn service(&self, service: &str) -> Option<u32> {
        self.services.get(service).map(|y| y + WIDE / 2)
    }

    /// The names of the lanes.
    pub(super) fn labels(&self) -> String {
        let mut html = String::new();
        for row in &self.rows {
            let _ = writeln!(
                html,
                "<div class=\"lane {}\" style=\"height:{}px\"><b>{}</b><i>{}</i></div>",
                row.class,
                row.height,
                escape(&row.label),
                escape(&row.aside)
            );
        }
        html
    }

    /// What the colors of services mean.
    pub(super) fn legend(&self) -> String {
        let services = self
            .rows
            .iter()
            .filter(|row| row.class.starts_with("service"));
        let mut html = String::new();
        for row in services {
            let color = row.class.trim_start_matches("service ");
            let label = escape(&row.label);
            let _ = write!(html, "<span><i class=\"key {color}\"></i>{label}</span>");
        }
        html
    }

    /// The background: one stripe for each row.
    pub(super) fn stripes(&self, svg: &mut Svg) {
        for (place, row) in self.rows.iter().enumerate() {
            let kind = row.class.split(' ').next().unwrap_or_default();
            let class = format!("stripe {kind} p{}", place % 2);
            svg.stripe(&class, (row.y, row.height));
        }
    }
}

/// The services that clients asked for or that ran.
fn services(history: &History<'_>) -> Vec<String> {
    let mut services: Vec<String> = Vec::new();
    for life in history.clients.values() {
        services.push(life.service.clone());
    }
    for entry in history.entries {
        if let Event::Status {
            service, starts, ..
        } = &entry.event
            && *starts > 0
        {
            services.push(service.clone());
        }
    }
    services.sort();
    services.dedup();
    services
}
