//! A report as text.

use std::fmt::{self, Write};

use super::{Report, Server};

/// A whole number with thousands separators.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} at {}: {}",
            self.workload,
            self.server_url,
            self.shape()?
        )?;
        if self.workload != "idle" {
            let rate = match self.messages_per_second {
                low @ ..100.0 => format!("{low:.1}"),
                high => thousands(high as u64),
            };
            let (count, seconds) = (thousands(self.messages), self.seconds);
            writeln!(f, "  messages   {count} in {seconds:.2} s, {rate} a second")?;
        }
        if let Some(took) = &self.latency_us {
            writeln!(
                f,
                "  latency    p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1} us",
                took.p50, took.p90, took.p99, took.p99_9, took.max
            )?;
        }
        if let Some(server) = &self.server {
            writeln!(f, "  server     {}", server.text(self.workload == "idle")?)?;
        }
        let busy = self.generator.busy * 100.0;
        write!(f, "  generator  busy {busy:.0} % of the time")?;
        if let Some(late) = self.generator.late_us_max {
            write!(f, ", sent up to {late:.1} us after a message was due")?;
        }
        if let Some(found) = &self.verified {
            let good = thousands(found.good);
            write!(
                f,
                "\n  verified   {good} messages as they were sent, in order, once"
            )?;
        }
        Ok(())
    }
}

impl Report {
    /// The parameters of the workload.
    fn shape(&self) -> Result<String, fmt::Error> {
        let mut text = format!("{} clients", thousands(self.clients as u64));
        if let Some(in_flight) = self.in_flight {
            write!(text, ", {in_flight} in flight each")?;
        }
        if let Some(window) = self.window {
            write!(text, ", a window of {window}")?;
        }
        if let Some(rate) = self.rate {
            write!(text, ", {rate} messages a second")?;
        }
        if self.size > 0 {
            write!(text, ", {} bytes", thousands(self.size as u64))?;
        }
        Ok(text)
    }
}

impl Server {
    fn text(&self, is_idle: bool) -> Result<String, fmt::Error> {
        let mut text = format!("process {}", self.pid);
        if let Some(cpu) = self.cpu_us_per_message.filter(|_cpu| !is_idle) {
            write!(text, ", {cpu:.3} us of processor time a message")?;
        }
        if let Some(share) = self.cpu_share {
            write!(text, ", {:.0} % of a core", share * 100.0)?;
        }
        if let Some(bytes) = self.resident_bytes {
            write!(text, ", {:.1} MB resident", bytes as f64 / 1e6)?;
        }
        if is_idle {
            if let Some(bytes) = self.resident_bytes_per_connection {
                write!(text, ", {bytes:.0} bytes a connection")?;
            }
            if let Some(cpu) = self.cpu_us_per_connection {
                write!(text, ", {cpu:.1} us to let each in")?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let counts = [0, 999, 1000, 12_345, 1_234_567];
        let texts = ["0", "999", "1,000", "12,345", "1,234,567"];
        assert_eq!(counts.map(thousands), texts);
    }
}
