use super::*;
use crate::disk::Disk;
use crate::rig::{CHIPS, disk, on};

/// The number of a sample with these labels.
fn number(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.starts_with(&format!("fusion_mpt_{name}{{"))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_controller_is_told_with_its_queue_targets_and_sensors() {
    for chip in CHIPS {
        let text = on(
            chip,
            |model| {
                model.add_disk(0, disk(0, false)).expect("free");
                model.add_disk(1, disk(1, true)).expect("free");
            },
            |host, bus| {
                let buffer = host.allocate(4096)?;
                let target = host.targets()[0].id;
                Disk::identify(host, &buffer, target, 0)?;
                let mut metrics = collect(host);
                metrics.sensors = Sensors::ask(host, &buffer)?;
                let before = render(&metrics);
                bus.with_model(|model| model.remove_disk(1));
                while host.happenings().is_empty() {
                    host.poll(&mut |_| {})?;
                    host.pause();
                }
                Ok((before, render(&collect(host))))
            },
        );
        let (before, after) = text;
        let of = |name, labels: &[&str]| number(&before, name, labels);
        assert_eq!(of("controller_up", &[]), Some(1.0));
        assert!(of("commands_completed_total", &["queue=\"0\""]).is_some_and(|count| count >= 5.0));
        assert_eq!(of("outstanding_commands", &[]), Some(0.0));
        assert_eq!(of("target_present", &["target=\"1\"", "protocol=\"SATA\""]), Some(1.0));
        assert_eq!(of("target_temperature_celsius", &["target=\"1\""]), Some(30.0));
        assert_eq!(of("phy_errors_total", &["phy=\"0\"", "invalid"]), Some(0.0));
        assert!(of("phy_link_bits_per_second", &["phy=\"1\""]).is_some_and(|rate| rate >= 3e9));
        assert_eq!(of("phy_link_bits_per_second", &["phy=\"2\""]), Some(0.0));
        let measured = of("controller_temperature_celsius", &["IOC"]);
        assert_eq!(measured, (chip.name != "sas1068").then_some(52.0));
        assert_eq!(number(&after, "target_present", &["target=\"1\""]), Some(0.0));
        assert_eq!(number(&after, "happenings_total", &["target-gone"]), Some(1.0));
    }
}

#[test]
fn every_name_is_told_once_with_help_and_type_before_its_numbers() {
    let metrics = on(CHIPS[2], |_| {}, |host, _| Ok(collect(host)));
    let mut metrics = metrics;
    metrics.queues.push(QueueMetrics { queue: 1, ..metrics.queues[0].clone() });
    metrics.further.push(Family::counter("exports_total", "Exports.").with(&[], 3.0));
    let text = render(&metrics);
    let mut names = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap_or_default().to_owned();
            assert!(!names.contains(&current), "{current} twice");
            assert_eq!(rest.ends_with("counter"), current.ends_with("_total"), "{rest}");
            names.push(current.clone());
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            assert_eq!(name, current);
        }
    }
    assert!(names.contains(&"fusion_mpt_exports_total".to_owned()));
    assert!(number(&text, "queue_depth", &["queue=\"1\""]).is_some());
}
