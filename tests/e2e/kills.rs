//! The process is killed at random points while clients write. After each opening, what was
//! acknowledged is compared with what is there.
//!
//! Each client has a workflow of its own, so that it knows what its tasks may be: as in the last
//! answer, or, for the one call that was under way, as that call would have made it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Home, Random, Server, hello};

const KILLS: usize = 44;
const CLIENTS: usize = 4;

/// How a task stands, with all that must not change unasked.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    Absent,
    Pending,
    Held { fence: u64 },
    Completed { result: Value },
    Cancelled,
}

#[derive(Debug)]
struct Known {
    payload: Value,
    acknowledged: Standing,
    /// What the call that was under way would have made of it.
    doubt: Option<Standing>,
    /// Since it was last compared.
    touched: bool,
}

/// A client that outlives its connections, and what it knows.
struct Ledger {
    name: String,
    tasks: BTreeMap<String, Known>,
    /// A request for a task was under way: any pending one may be held now.
    lost_next: bool,
    random: Random,
}

impl Ledger {
    /// Writes until the connection ends. Returns how many calls were answered.
    fn write(&mut self, mut client: Client) -> usize {
        client.request("ipfs-accelerate/hello", &json!({"worker": self.name}));
        let introduction = client.request("initialize", &hello());
        if client.try_answer(introduction).is_none() {
            return 0;
        }
        let mut answered = 0;
        while self.step(&mut client).is_some() {
            answered += 1;
        }
        answered
    }

    /// One call; `None` if it was not answered.
    fn step(&mut self, client: &mut Client) -> Option<()> {
        match self.random.below(10) {
            0..4 => self.submit(client),
            4..7 => self.next(client),
            7..9 => match self.pick(|standing| matches!(standing, Standing::Held { .. })) {
                Some(id) => self.complete(client, &id),
                None => self.next(client),
            },
            _ => match self.pick(|standing| *standing == Standing::Pending) {
                Some(id) => self.cancel(client, &id),
                None => self.submit(client),
            },
        }
    }

    fn pick(&mut self, suits: impl Fn(&Standing) -> bool) -> Option<String> {
        let ids: Vec<&String> = self
            .tasks
            .iter()
            .filter(|(_, task)| suits(&task.acknowledged))
            .map(|(id, _)| id)
            .collect();
        if ids.is_empty() {
            return None;
        }
        Some(ids[self.random.below(ids.len() as u64) as usize].clone())
    }

    fn submit(&mut self, client: &mut Client) -> Option<()> {
        let id = format!("{}-{}", self.name, self.tasks.len());
        let payload = json!({"of": id, "filler": "x".repeat(self.random.below(3000) as usize)});
        let arguments = json!({"task_id": id, "workflow_id": self.name, "name": id,
                               "tags": ["p2p-only"], "payload": payload});
        let known = Known { payload, acknowledged: Standing::Absent, doubt: None, touched: true };
        self.tasks.insert(id.clone(), known);
        self.change(client, &id, "p2p_submit_task", &arguments, Standing::Pending)
    }

    fn complete(&mut self, client: &mut Client, id: &str) -> Option<()> {
        let Standing::Held { fence } = self.tasks[id].acknowledged else { unreachable!("picked") };
        let result = json!({"done": id, "number": self.random.below(1 << 40)});
        let arguments = json!({"task_id": id, "fence": fence, "result": result});
        self.change(
            client,
            id,
            "p2p_mark_task_complete",
            &arguments,
            Standing::Completed { result },
        )
    }

    fn cancel(&mut self, client: &mut Client, id: &str) -> Option<()> {
        let arguments = json!({"task_id": id, "outcome": "cancelled"});
        self.change(client, id, "p2p_mark_task_complete", &arguments, Standing::Cancelled)
    }

    fn change(
        &mut self,
        client: &mut Client,
        id: &str,
        tool: &str,
        arguments: &Value,
        to: Standing,
    ) -> Option<()> {
        let known = self.tasks.get_mut(id).expect("it is known");
        (known.doubt, known.touched) = (Some(to.clone()), true);
        let call = client.start_call(tool, arguments);
        let answer = client.try_answer(call)?;
        assert_eq!(answer["result"]["isError"], false, "{tool} {arguments}: {answer}");
        (known.acknowledged, known.doubt) = (to, None);
        Some(())
    }

    /// The leases run on time, so that they outlast the connection.
    fn next(&mut self, client: &mut Client) -> Option<()> {
        self.lost_next = true;
        let wanted = json!({"workflow_id": self.name, "lease_seconds": 3600});
        let call = client.start_call("p2p_get_next_task", &wanted);
        let given = client.try_answer(call)?["result"]["structuredContent"].clone();
        self.lost_next = false;
        let Some(id) = given["task"]["task_id"].as_str() else { return Some(()) };
        let known = self.tasks.get_mut(id).expect("one of its own");
        assert_eq!(known.acknowledged, Standing::Pending, "{id} is given once");
        assert_eq!(given["task"]["payload"], known.payload);
        let fence = given["lease"]["fence"].as_u64().expect("a fence");
        (known.acknowledged, known.touched) = (Standing::Held { fence }, true);
        Some(())
    }

    /// Holds what is known against what is there, and takes over what was in doubt.
    fn compare(&mut self, client: &mut Client, all: bool) {
        for (id, known) in &mut self.tasks {
            // A lost request for a task may have touched any of those that wait.
            let waits = self.lost_next && known.acknowledged == Standing::Pending;
            if !(all || known.touched || waits) {
                continue;
            }
            let there = standing(client, id, &self.name, &known.payload);
            let as_expected = there == known.acknowledged || Some(&there) == known.doubt.as_ref();
            if !as_expected {
                let lost_lease = waits && matches!(there, Standing::Held { .. });
                assert!(lost_lease, "{id} is {there:?}, and was {known:?}");
                self.lost_next = false;
            }
            (known.acknowledged, known.doubt, known.touched) = (there, None, false);
        }
        self.lost_next = false;
    }
}

fn standing(client: &mut Client, id: &str, worker: &str, payload: &Value) -> Standing {
    let call = client.start_call("p2p_scheduler_status", &json!({"task_id": id}));
    let answer = client.answer(call);
    if answer["result"]["isError"] == true {
        assert_eq!(crate::harness::code(&answer["result"]), "task_not_found");
        return Standing::Absent;
    }
    let task = &answer["result"]["structuredContent"]["tasks"][0];
    assert_eq!(task["payload"], *payload, "{id}");
    match task["state"].as_str().expect("a state") {
        "pending" => Standing::Pending,
        "assigned" => {
            assert_eq!(task["worker"], *worker, "{id}");
            Standing::Held { fence: task["fence"].as_u64().expect("a fence") }
        }
        "completed" => Standing::Completed { result: task["result"].clone() },
        "cancelled" => Standing::Cancelled,
        other => panic!("{id} is {other}"),
    }
}

fn start(home: &Home, relaxed: bool) -> Server {
    let mut command = home.command();
    command.args(["mcp", "start", "--durability", if relaxed { "relaxed" } else { "full" }]);
    let mut server = Server::spawn(command);
    server.introduce();
    server
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let home = Home::new();
    let mut random = Random::new();
    let mut ledgers: Vec<Ledger> = (0..CLIENTS)
        .map(|number| Ledger {
            name: format!("client-{number}"),
            tasks: BTreeMap::new(),
            lost_next: false,
            random: random.fork(),
        })
        .collect();
    let mut answered = 0;
    for _ in 0..KILLS {
        // A killed process loses nothing in either mode.
        let mut server = start(&home, random.below(4) == 0);
        for ledger in &mut ledgers {
            ledger.compare(&mut server, false);
        }
        let clients: Vec<Client> = ledgers.iter().map(|_| home.connect()).collect();
        let moment = Duration::from_micros(random.below(300_000));
        thread::scope(|scope| {
            let writing: Vec<_> = ledgers
                .iter_mut()
                .zip(clients)
                .map(|(ledger, client)| scope.spawn(|| ledger.write(client)))
                .collect();
            thread::sleep(moment);
            server.kill();
            let calls = writing.into_iter().map(|writing| writing.join().expect("it ends"));
            answered += calls.sum::<usize>();
        });
    }
    let mut server = start(&home, false);
    for ledger in &mut ledgers {
        ledger.compare(&mut server, true);
    }
    assert!(answered > KILLS, "the clients wrote between the kills: {answered}");
    eprintln!("{answered} calls were answered between {KILLS} kills");
}
