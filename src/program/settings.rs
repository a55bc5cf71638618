//! Credentials, scheduling, and the other settings of a task.

use super::{Compiler, Program, attempt, call, exact};
use crate::image::{Cred, Live, Settings};

/// sched_attr: the word of its flags, and SCHED_FLAG_RESET_ON_FORK in them.
const SCHED_FLAGS: usize = 1;
const RESET_ON_FORK: u64 = 1;

/// sched_attr: the word whose high half is the policy; those policies whose niceness sched_setattr(2) sets,
/// SCHED_OTHER and SCHED_BATCH; and the word whose low half is the niceness.
const SCHED_POLICY: usize = 0;
const NICE_POLICIES: [u64; 2] = [0, 3];
const SCHED_NICE: usize = 2;

/// Where the core dump filter begins in the flags of an address space (MMF_DUMP_FILTER_SHIFT).
const DUMP_FILTER_SHIFT: u32 = 2;

/// Version of the structs of capset(2) that has 64 bits for each set.
const CAPABILITY_VERSION: u64 = 0x2008_0522;

/// Bit of the securebits that PR_SET_KEEPCAPS sets (capabilities(7)).
const KEEP_CAPS: u32 = 1 << 4;

impl Compiler<'_> {
    /// What can be set only by writing to /proc. The task has no descriptors of its own yet.
    pub(super) fn proc_settings(&mut self, p: &mut Program, live: &Live) {
        let Some(settings) = &live.settings else { return };
        if settings.oom_score_adj != self.facts.own.oom_score_adj {
            self.write_proc(p, b"/proc/self/oom_score_adj", settings.oom_score_adj.to_string());
        }
        let Some(mm) = self.body.objects.mms.get(live.mm) else { return };
        let filter = mm.flags >> DUMP_FILTER_SHIFT;
        if self.facts.dump_filter.is_some_and(|own| own != filter) {
            self.write_proc(p, b"/proc/self/coredump_filter", format!("{filter:#x}"));
        }
    }

    pub(super) fn write_proc(&mut self, p: &mut Program, path: &[u8], value: String) {
        let (path, length) = (self.data.text(path), value.len() as u64);
        let value = self.data.text(value.as_bytes());
        let fd = self.slots.base_model().lowest() as u64;
        let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as u64;
        p.push(exact(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, flags], fd));
        p.push(exact(libc::SYS_write, &[fd, value, length], length));
        p.push(call(libc::SYS_close, &[fd]));
    }

    /// The last settings of a task: what costs it rights that it needed until now, and its credentials.
    pub(super) fn settings(&mut self, p: &mut Program, live: &Live) {
        if let Some(settings) = &live.settings {
            self.scheduling(p, settings);
        }
        let ambient = live.settings.as_ref().map(|s| s.ambient);
        if let Some(cred) = self.body.objects.creds.get(live.cred) {
            self.credentials(p, cred, ambient.unwrap_or(self.facts.own.ambient));
        }
        let Some(settings) = &live.settings else { return };
        let own = &self.facts.own;
        if settings.personality != own.personality {
            p.push(call(libc::SYS_personality, &[settings.personality.into()]));
        }
        let thp = settings.thp_disabled != own.thp_disabled;
        // A change of credentials, this thread's or another's, makes the process undumpable.
        let same = self.body.objects.creds.len() == 1 && self.same_credentials(live);
        let dumpable = !same || settings.dumpable != own.dumpable;
        let no_new_privs = settings.no_new_privs && !own.no_new_privs;
        let (subreaper, slack) = (settings.subreaper, settings.timer_slack);
        let tsc = if settings.no_tsc { libc::PR_TSC_SIGSEGV } else { libc::PR_TSC_ENABLE };
        let other_tsc = settings.no_tsc != own.no_tsc;
        let (is_thp, is_dumpable) = (settings.thp_disabled, settings.dumpable);
        if slack != own.timer_slack {
            self.prctl(p, libc::PR_SET_TIMERSLACK, slack);
        }
        if thp {
            self.prctl(p, libc::PR_SET_THP_DISABLE, is_thp.into());
        }
        if other_tsc {
            self.prctl(p, libc::PR_SET_TSC, tsc as u64);
        }
        if dumpable {
            self.prctl(p, libc::PR_SET_DUMPABLE, is_dumpable.into());
        }
        if subreaper {
            self.prctl(p, libc::PR_SET_CHILD_SUBREAPER, 1);
        }
        if no_new_privs {
            self.prctl(p, libc::PR_SET_NO_NEW_PRIVS, 1);
        }
    }

    /// Forbids the process to execute what can be written: behind everything that the restart itself has to make executable.
    pub(super) fn deny_write_execute(&mut self, p: &mut Program, live: &Live) {
        const PR_SET_MDWE: i32 = 65;
        if let Some(settings) = live.settings.as_ref().filter(|settings| settings.mdwe) {
            self.prctl(p, PR_SET_MDWE, if settings.mdwe_alone { 3 } else { 1 });
        }
    }

    fn same_credentials(&self, live: &Live) -> bool {
        self.body.objects.creds.get(live.cred).is_none_or(|cred| *cred == self.facts.cred)
    }

    fn scheduling(&mut self, p: &mut Program, settings: &Settings) {
        let own = &self.facts.own;
        let fresh = own.sched.get(SCHED_FLAGS).is_some_and(|flags| flags & RESET_ON_FORK != 0);
        if settings.io_priority != own.io_priority {
            const WHO_PROCESS: u64 = 1;
            p.push(call(libc::SYS_ioprio_set, &[WHO_PROCESS, 0, settings.io_priority.into()]));
        }
        if !settings.affinity.is_empty() && settings.affinity != own.affinity {
            let set = self.data.words(&settings.affinity);
            let size = 8 * settings.affinity.len() as u64;
            p.push(call(libc::SYS_sched_setaffinity, &[0, size, set]));
        }
        if settings.sched != own.sched || fresh {
            let word = |at: usize| settings.sched.get(at).copied().unwrap_or(0);
            if !NICE_POLICIES.contains(&(word(SCHED_POLICY) >> 32)) {
                let nice = word(SCHED_NICE) as u32 as i32;
                let who = libc::PRIO_PROCESS.into();
                p.push(call(libc::SYS_setpriority, &[who, 0, nice as i64 as u64]));
            }
            let attributes = self.data.words(&settings.sched);
            p.push(call(libc::SYS_sched_setattr, &[0, attributes, 0]));
        }
    }

    /// Gives the task its credentials, in an order in which each step still has the right to be made.
    fn credentials(&mut self, p: &mut Program, cred: &Cred, ambient: u64) {
        let own = self.facts.cred.clone();
        let own_ambient = self.facts.own.ambient;
        if *cred == own && ambient == own_ambient {
            return;
        }
        if cred.groups != own.groups {
            let bytes: Vec<u8> = cred.groups.iter().flat_map(|g| g.to_le_bytes()).collect();
            let list = self.data.constant(&bytes);
            p.push(call(libc::SYS_setgroups, &[cred.groups.len() as u64, list]));
        }
        // Real, saved, effective, file system, as the image has them; the calls want the saved one third.
        let [real, saved, effective, fs] = cred.gids.map(u64::from);
        if cred.gids != own.gids {
            p.push(call(libc::SYS_setresgid, &[real, effective, saved]));
            p.push(attempt(libc::SYS_setfsgid, &[fs]));
        }
        let dropped = own.caps[3] & !cred.caps[3];
        for capability in bits(dropped) {
            self.prctl(p, libc::PR_CAPBSET_DROP, capability);
        }
        let [real, saved, effective, fs] = cred.uids.map(u64::from);
        let moves = cred.uids != own.uids;
        if moves {
            self.prctl(p, libc::PR_SET_KEEPCAPS, 1);
            p.push(call(libc::SYS_setresuid, &[real, effective, saved]));
            p.push(attempt(libc::SYS_setfsuid, &[fs]));
        }
        let [inheritable, permitted, effective, _] = cred.caps;
        self.capset(p, [inheritable, own.caps[1], own.caps[1]]);
        self.ambient(p, ambient, own_ambient, moves);
        let own_bits = if moves { own.securebits | KEEP_CAPS } else { own.securebits };
        if cred.securebits & !KEEP_CAPS != own_bits & !KEEP_CAPS {
            self.prctl(p, libc::PR_SET_SECUREBITS, cred.securebits.into());
        } else if cred.securebits != own_bits {
            let keep = cred.securebits & KEEP_CAPS != 0;
            self.prctl(p, libc::PR_SET_KEEPCAPS, keep.into());
        }
        self.capset(p, [inheritable, permitted, effective]);
    }

    /// capset(2) with inheritable, permitted and effective capabilities.
    fn capset(&mut self, p: &mut Program, [inheritable, permitted, effective]: [u64; 3]) {
        let header = self.data.words(&[CAPABILITY_VERSION]);
        let half = |set: u64, high: bool| if high { set >> 32 } else { set & 0xffff_ffff };
        // Low halves of effective, permitted, inheritable; then their high halves.
        let words = [
            half(effective, false) | half(permitted, false) << 32,
            half(inheritable, false) | half(effective, true) << 32,
            half(permitted, true) | half(inheritable, true) << 32,
        ];
        let sets = self.data.words(&words);
        p.push(call(libc::SYS_capset, &[header, sets]));
    }

    /// Ambient capabilities; the kernel drops them where all uids cease to be 0.
    fn ambient(&mut self, p: &mut Program, wanted: u64, own: u64, moves: bool) {
        let prctl = |operation: i32, capability: u64| {
            let args = [libc::PR_CAP_AMBIENT as u64, operation as u64, capability, 0, 0];
            call(libc::SYS_prctl, &args)
        };
        let own = if moves { 0 } else { own };
        p.extend(bits(own & !wanted).map(|bit| prctl(libc::PR_CAP_AMBIENT_LOWER, bit)));
        p.extend(bits(wanted & !own).map(|bit| prctl(libc::PR_CAP_AMBIENT_RAISE, bit)));
    }
}

/// Numbers of the bits that are set.
fn bits(set: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |bit| set & 1 << bit != 0)
}
