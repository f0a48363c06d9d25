//! Several machines on a LAN, each the built binary in a network of its own.

mod lan;
mod machine;
mod readme;
mod scene;
mod workers;

use std::io::Write;

use lan::Lan;
use scene::Scene;

/// A LAN of so many machines; `None`, and a loud word, where this tester cannot make one.
fn lan(machines: usize) -> Option<Lan> {
    match Lan::of(machines) {
        Ok(lan) => Some(lan),
        Err(why) => {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Not by a macro: those are silent where a test passes.
            let line = format!("\nSKIPPED {test}: no LAN can be made here: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("stderr takes it");
            None
        }
    }
}

#[test]
fn five_machines_do_every_task_whatever_happens_to_machines_and_cables() {
    let Some(lan) = lan(6) else { return };
    let mut scene = Scene::of_five(&lan);
    scene.all_meet();
    scene.a_stranger_comes();
    scene.all_is_well("first");
    scene.a_machine_dies();
    scene.a_cable_is_pulled();
    scene.the_lan_falls_apart();
    scene.all_is_well("last");
    scene.the_stranger_got_nothing();
    scene.all_tell_the_same();
    scene.close();
}
