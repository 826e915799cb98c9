//! Those who wait for elements of a queue, and those who push them. Each element is a number that no other
//! has, so that the oracle can tell what became of it.

use std::time::Duration;

use crate::{
    network::Stage,
    server::is_blocking,
    workload::{Asked, Command, QUEUES, Shape, Wish},
    world::{Action, World},
};

/// How late the server is at most at the end of a wait: one that has nothing else to do looks ten times a
/// second.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// How many wait in all, so that those who hold connections get on as well.
const WAITING_MAX: usize = 8;

impl World {
    /// Somebody waits for an element.
    pub(crate) fn popper(&mut self) {
        if self.over {
            return;
        }
        let waiting = self.asked.values().filter(|asked| asked.command_that_waits().is_some());
        if waiting.count() < WAITING_MAX {
            let wish = Wish::draw_waiting(&mut self.entropy, &mut self.ids);
            let wish = self.spread(wish);
            self.wish(&wish, "popper");
        }
        let delay = self.entropy.micros(2_000, 4 * self.setup.think_micros);
        self.at(delay, Action::Popper);
    }

    /// Somebody pushes one.
    pub(crate) fn pusher(&mut self) {
        if self.over {
            return;
        }
        self.ids += 1;
        let queue = self.entropy.pick(&QUEUES);
        let push = Command::push(queue, self.ids);
        let shape = if self.entropy.chance(85) { Shape::One } else { Shape::Whole };
        let options = unfazed_core::Options::default();
        let wish = self.spread(Wish { commands: vec![push], shape, options });
        self.wish(&wish, "pusher");
        // Seldom enough that most who pop have to wait.
        let delay = self.entropy.micros(2_000, 8 * self.setup.think_micros);
        self.at(delay, Action::Pusher);
    }

    /// One who waits is given up: if that may have cost an element, operators must hear of it.
    pub(crate) fn pop_given_up(&mut self, asked: &Asked, detached: bool, told_before: u64) {
        let Some(command) = asked.command_that_waits() else { return };
        let line = command.line();
        if detached {
            return self.oracle.on_pop_detached(&line);
        }
        self.settle();
        let told = self.given_up > told_before;
        self.count(if told { "a pop was given up and told of" } else { "a pop was given up" });
        self.oracle.on_pop_cancelled(&line, told);
    }

    // ---- the server's side ---------------------------------------------------------------------

    /// Sends what those are answered whose wait is over, and goes on with what they have sent since.
    pub(crate) fn answer_woken(&mut self) {
        loop {
            let woken = self.server.take_woken();
            if woken.is_empty() {
                break;
            }
            for (link, frame) in woken {
                self.count("a wait at the server is over");
                self.send_to(link, &frame, 1);
                self.carry_on(link);
            }
        }
        self.watch_the_clock();
    }

    /// The server will look at the clock when the next wait is over.
    fn watch_the_clock(&mut self) {
        let Some(until) = self.server.next_wait_over() else { return };
        let at = Duration::from_millis(until.saturating_sub(self.when().unix));
        let looks_later = |looks_at| looks_at > self.now + at + LOOKS_EVERY;
        if self.server.looks_at.is_none_or(looks_later) {
            let late = self.entropy.pick(&[0, 1_000, LOOKS_EVERY.as_micros() as u64]);
            let late = self.entropy.micros(0, late);
            self.look_after(at + late);
        }
    }

    fn look_after(&mut self, delay: Duration) {
        self.server.looks_at = Some(self.now + delay);
        self.at(delay, Action::Look(self.here()));
    }

    /// A node of a cluster sees something in another way: it will notice if some wait there in vain.
    pub(crate) fn look_for_waiting(&mut self) {
        if self.server.waiting() > 0 {
            let delay = self.entropy.micros(0, LOOKS_EVERY.as_micros() as u64);
            self.look_after(delay);
        }
    }

    /// Something was put where others may wait for it.
    pub(crate) fn serve_waiting(&mut self) {
        self.server.serve_waiting(self.when());
        self.answer_woken();
    }

    /// The server looks at the clock.
    pub(crate) fn look(&mut self) {
        if self.server.looks_at.take_if(|at| *at <= self.now).is_none() {
            return;
        }
        if self.server.paused {
            return self.look_after(LOOKS_EVERY);
        }
        self.seq += 1;
        for _ in 0..self.server.send_away(self.when()) {
            self.count("one that waits is sent to another node");
        }
        self.server.end_waits(self.when());
        self.answer_woken();
    }

    /// CLIENT UNBLOCK, on somebody. Gives whether anybody waited.
    pub(crate) fn unblock(&mut self) -> bool {
        let waiting = self.server.waiting() as u64;
        if waiting == 0 || self.server.paused {
            return false;
        }
        self.count("fault: CLIENT UNBLOCK");
        let at = self.entropy.below(waiting) as usize;
        self.seq += 1;
        self.server.unblock(at, self.when());
        self.answer_woken();
        true
    }

    /// The server is a replica now, and ends the connections of those who wait.
    pub(crate) fn demote(&mut self) {
        self.seq += 1;
        let links = self.server.demote(self.when());
        for (link, frame) in self.server.take_woken() {
            self.send_to(link, &frame, 1);
        }
        for id in links {
            self.count("fault: a demoted server ends a wait");
            self.server.forget(id);
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.served = false;
            let left = link.down.len();
            link.down_cut = Some(link.down_cut.map_or(left, |cut| cut.min(left)));
            self.read_down(id);
        }
    }

    /// The client has closed a connection on which the server lets a command wait: it hears of that later.
    /// Gives whether it does.
    pub(crate) fn learns_late(&mut self, id: u64) -> bool {
        if !self.server.waits(id) || self.entropy.chance(40) {
            return false;
        }
        self.count("the server waits on after the client has gone");
        let delay = self.entropy.micros(50, 30_000);
        self.at(delay, Action::Learn(id));
        true
    }

    /// The server learns that a client has gone.
    pub(crate) fn learn(&mut self, id: u64) {
        self.turn_to_link(id);
        if self.links.get(&id).is_some_and(|link| link.stage == Stage::Gone) {
            self.links.remove(&id);
            self.server.forget(id);
        }
    }
}

impl Asked {
    /// The first command in it that waits at the server.
    pub(crate) fn command_that_waits(&self) -> Option<&Command> {
        let alone = self.shape != Shape::Whole;
        self.commands.iter().find(|command| alone && is_blocking(command.name()))
    }

    /// Whether its deadline moves while it waits, so that it is known only to be no later than so.
    pub(crate) fn moves(&self) -> bool {
        let alone = self.commands.len() == 1 && self.command_that_waits().is_some();
        alone && self.options.deadline.is_none()
    }
}
