//! What a simulation is asked for, and what chance makes of it: which faults there are, how often,
//! how bad the weather is, and what workers are like. Each seed has some kinds of faults and lacks
//! others, so that one does not hide what another would show.

use p2p_workflow_scheduler::scheduler::Config;

use super::faults::Fault;
use super::random::Random;

/// What one simulation is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Peers at the beginning.
    pub(crate) peers: usize,
    /// For how long things go wrong, in milliseconds; `None`: some minutes.
    pub(crate) duration: Option<u64>,
    /// Tasks that are handed in, about; `None`: some for each peer.
    pub(crate) tasks: Option<u64>,
    /// Whether what is sent is counted in bytes. Then peers have names as long as real ones.
    pub(crate) bytes: bool,
}

impl Scenario {
    pub(crate) fn new(seed: u64, peers: usize) -> Self {
        Scenario { seed, peers, duration: None, tasks: None, bytes: false }
    }

    /// Whether nothing goes wrong in it: then tasks run twice only where claims cross in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.seed % 10 == 9
    }

    /// The command that repeats it.
    pub(crate) fn command(&self) -> String {
        let Scenario { seed, peers, .. } = self;
        let mut command =
            format!("cargo run --release --example simulate -- --seed {seed} --peers {peers}");
        if let Some(duration) = self.duration {
            command += &format!(" --hours {}", duration as f64 / 3_600_000.0);
        }
        if let Some(tasks) = self.tasks {
            command += &format!(" --tasks {tasks}");
        }
        if self.bytes {
            command += " --bytes";
        }
        command
    }
}

/// What the network and the disks do to whoever relies on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Percent of messages that are lost, and of those that come twice.
    pub(crate) loss: u64,
    pub(crate) doubled: u64,
    /// Milliseconds that a message and a commit take at most.
    pub(crate) delay: u64,
    pub(crate) commit: u64,
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather { loss: 0, doubled: 0, delay: 5, commit: 5 };

    pub(crate) fn foul(random: &mut Random) -> Self {
        let sometimes = |random: &mut Random, most: u64| match random.percent(50) {
            true => random.within(0..most + 1),
            false => 0,
        };
        Weather {
            loss: sometimes(random, 40),
            doubled: sometimes(random, 20),
            delay: random.spread(2..3_000),
            commit: random.spread(2..200),
        }
    }
}

/// How workers behave, in percent of what they do, and how long they work at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) vanish: u64,
    pub(crate) stall: u64,
    pub(crate) renew: u64,
    pub(crate) release: u64,
    pub(crate) fail: u64,
    /// How often an idle one reports on a lease that is over.
    pub(crate) stale: u64,
    pub(crate) lost_answer: u64,
    pub(crate) work: u64,
}

impl Habits {
    pub(crate) const GOOD: Habits = Habits {
        vanish: 0,
        stall: 0,
        renew: 0,
        release: 0,
        fail: 0,
        stale: 0,
        lost_answer: 0,
        work: 1_000,
    };

    fn bad(random: &mut Random) -> Self {
        Habits {
            vanish: random.within(0..10),
            stall: random.within(0..15),
            renew: random.within(0..15),
            release: random.within(0..10),
            fail: random.within(0..20),
            stale: random.within(0..40),
            lost_answer: random.within(0..20),
            work: random.spread(200..60_000),
        }
    }
}

/// What chance made of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) config: Config,
    pub(crate) duration: u64,
    /// Milliseconds between two things that people do, on average.
    pub(crate) between_people: u64,
    pub(crate) faults: Vec<Fault>,
    /// Milliseconds between two faults, at most.
    pub(crate) between_faults: u64,
    pub(crate) weather: Weather,
    pub(crate) habits: Habits,
    /// Links that each peer opens.
    pub(crate) degree: usize,
    pub(crate) workers: usize,
    pub(crate) conflicts: bool,
    pub(crate) cycles: bool,
}

impl Profile {
    pub(crate) fn draw(scenario: &Scenario, random: &mut Random) -> Self {
        let duration = scenario.duration.unwrap_or_else(|| random.within(60_000..300_000));
        let tasks = scenario.tasks.unwrap_or(8 * scenario.peers as u64);
        let mut faults = Fault::ALL.to_vec();
        let common = random.within(20..101);
        faults.retain(|_| random.percent(common));
        let config = Self::draw_config(random);
        if config.retention < Config::default().retention {
            // What is forgotten goes by wall clocks.
            faults.retain(|fault| *fault != Fault::Jump);
        }
        if scenario.is_quiet() {
            return Profile::quiet(duration, tasks, random);
        }
        Profile {
            config,
            duration,
            // Two of three things that they do hand a task in.
            between_people: (duration * 2 / 3 / tasks.max(1)).max(1),
            faults,
            between_faults: random.spread(2_000..40_000),
            weather: Weather::foul(random),
            habits: Habits::bad(random),
            degree: *random.one_of(&[2, 3, 16]),
            workers: 1 + random.below(3),
            conflicts: random.percent(50),
            cycles: random.percent(50),
        }
    }

    /// Nothing goes wrong, and tasks keep all workers busy.
    pub(crate) fn quiet(duration: u64, tasks: u64, random: &mut Random) -> Self {
        Profile {
            config: Config::default(),
            duration,
            between_people: (duration * 2 / 3 / tasks.max(1)).max(1),
            faults: Vec::new(),
            between_faults: duration,
            weather: Weather::FAIR,
            habits: Habits { work: random.spread(200..60_000), ..Habits::GOOD },
            degree: *random.one_of(&[2, 3, 16]),
            workers: 1 + random.below(3),
            conflicts: false,
            cycles: false,
        }
    }

    /// Mostly what ended is kept; in some seeds it goes while people look on.
    fn draw_config(random: &mut Random) -> Config {
        let mut config = Config::default();
        if random.percent(30) {
            config.retention = random.within(20_000..60_000);
            if random.percent(50) {
                config.forget_member_after = random.within(120_000..300_000);
            }
        }
        config
    }
}
