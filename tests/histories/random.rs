//! Random histories of processes: fork, clone with CLONE_PARENT, threads, setsid, setpgid and exit, as a
//! kernel does them, and the image of what is left in the end.

use usercr::image::{ImageHead, PidTable, TaskIds};

/// Where the choices come from: random numbers, or the bytes of a fuzzer.
pub trait Choices {
    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize;

    /// True `percent` times in a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// SplitMix64.
pub struct Seed(pub u64);

impl Choices for Seed {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// A fuzzer's bytes; when they are used up, every choice is the first one.
pub struct Bytes<'a>(pub &'a [u8]);

impl Choices for Bytes<'_> {
    fn below(&mut self, n: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        if n <= 256 {
            return first as usize % n;
        }
        let (&second, rest) = rest.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        (first as usize | (second as usize) << 8) % n
    }
}

/// The session that the root task begins in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Its own.
    Own,
    /// One whose leader is outside the tree.
    Foreign,
    /// The same, but the image has no number for it.
    Outside,
}

/// What a history is like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// About how many tasks live at most.
    pub tasks: usize,
    /// How many things happen.
    pub steps: usize,
    /// The root task is pid 1 of its namespace.
    pub container: bool,
    /// The root task is a child subreaper.
    pub subreaper: bool,
    /// The session it begins in.
    pub begin: Begin,
    /// Namespaces are nested at most so deep.
    pub nesting: usize,
    /// How much (of 100) CLONE_PARENT there is among the forks.
    pub siblings: usize,
    /// How many (of 100) steps are a setsid.
    pub setsids: usize,
    /// How many (of 100) steps are an exit.
    pub exits: usize,
    /// How many (of 100) exits leave a zombie.
    pub zombies: usize,
}

impl Shape {
    /// Any shape of about this size, without nested namespaces.
    pub fn any(choices: &mut impl Choices, tasks: usize) -> Shape {
        let tasks = 1 + choices.below(tasks);
        let container = choices.chance(40);
        Shape {
            tasks,
            steps: tasks * (1 + choices.below(12)),
            container,
            subreaper: !container && choices.chance(25),
            begin: [Begin::Own, Begin::Foreign, Begin::Outside][choices.below(3)],
            nesting: 0,
            siblings: [0, 10, 40][choices.below(3)],
            setsids: [2, 12, 30][choices.below(3)],
            exits: [5, 15, 30][choices.below(3)],
            zombies: [0, 10][choices.below(2)],
        }
    }
}

struct Process {
    object: usize,
    parent: Option<usize>,
    group: usize,
    session: usize,
    threads: Vec<usize>,
    children: Vec<usize>,
    namespace: usize,
    listed: bool,
}

struct Namespace {
    init: usize,
    last: i32,
}

/// A history under way. Ids are indices of pid objects.
struct World<'c, C> {
    choices: &'c mut C,
    shape: Shape,
    objects: Vec<Vec<i32>>,
    /// Of each object: how many processes have it as their group.
    members: Vec<usize>,
    processes: Vec<Process>,
    /// Those that can act.
    acting: Vec<usize>,
    /// Where each process is among those.
    seat: Vec<usize>,
    namespaces: Vec<Namespace>,
    tasks: usize,
}

/// Plays a history of this shape and returns the head of its image.
pub fn history(choices: &mut impl Choices, shape: Shape) -> ImageHead {
    let mut world = World::new(choices, shape);
    for _ in 0..shape.steps {
        world.step();
    }
    world.image()
}

impl<'c, C: Choices> World<'c, C> {
    fn new(choices: &'c mut C, shape: Shape) -> Self {
        let pid = if shape.container { 1 } else { 400 + choices.below(1000) as i32 };
        let namespaces = vec![Namespace { init: 0, last: 500.max(pid) }];
        let mut world = World {
            choices,
            shape,
            objects: vec![vec![pid]],
            members: vec![0],
            processes: Vec::new(),
            acting: Vec::new(),
            seat: Vec::new(),
            namespaces,
            tasks: 0,
        };
        let session = if shape.begin == Begin::Own { 0 } else { world.new_object(vec![399]) };
        world.add(0, None, session, session, 0);
        world
    }

    fn new_object(&mut self, numbers: Vec<i32>) -> usize {
        self.objects.push(numbers);
        self.members.push(0);
        self.objects.len() - 1
    }

    fn new_pid(&mut self, namespace: usize) -> usize {
        let mut numbers = Vec::new();
        let mut at = Some(namespace);
        while let Some(ns) = at {
            let step = 1 + self.choices.below(3) as i32;
            let space = &mut self.namespaces[ns];
            space.last += step;
            numbers.insert(0, space.last);
            let init = self.processes.get(space.init);
            at = init.and_then(|i| i.parent).map(|p| self.processes[p].namespace);
        }
        self.new_object(numbers)
    }

    fn add(
        &mut self,
        object: usize,
        parent: Option<usize>,
        group: usize,
        session: usize,
        ns: usize,
    ) {
        let at = self.processes.len();
        let (threads, children) = (Vec::new(), Vec::new());
        let process = Process {
            object,
            parent,
            group,
            session,
            threads,
            children,
            namespace: ns,
            listed: true,
        };
        self.processes.push(process);
        self.seat.push(self.acting.len());
        self.acting.push(at);
        self.members[group] += 1;
        self.tasks += 1;
        if let Some(parent) = parent {
            self.processes[parent].children.push(at);
        }
    }

    fn step(&mut self) {
        let p = self.acting[self.choices.below(self.acting.len())];
        let what = self.choices.below(100);
        let Shape { setsids, exits, .. } = self.shape;
        match what {
            _ if what < exits => self.exit(p),
            _ if what < exits + setsids => self.setsid(p),
            _ if what < exits + setsids + 10 => self.setpgid(p),
            _ if self.tasks >= self.shape.tasks => {}
            _ if what > 93 => {
                let thread = self.new_pid(self.processes[p].namespace);
                self.processes[p].threads.push(thread);
                self.tasks += 1;
            }
            _ => self.fork(p),
        }
    }

    fn fork(&mut self, p: usize) {
        let Process { group, session, namespace, parent, .. } = self.processes[p];
        let is_init = self.namespaces[namespace].init == p;
        if self.choices.chance(self.shape.siblings)
            && let (Some(parent), false) = (parent, is_init)
        {
            let object = self.new_pid(namespace);
            return self.add(object, Some(parent), group, session, namespace);
        }
        let depth = self.objects[self.processes[p].object].len() - 1;
        let object = self.new_pid(namespace);
        if depth < self.shape.nesting && self.choices.chance(10) {
            self.objects[object].push(1);
            self.namespaces.push(Namespace { init: self.processes.len(), last: 1 });
            return self.add(object, Some(p), group, session, self.namespaces.len() - 1);
        }
        self.add(object, Some(p), group, session, namespace);
    }

    fn setsid(&mut self, p: usize) {
        let object = self.processes[p].object;
        if self.members[object] == 0 {
            self.join(p, object);
            self.processes[p].session = object;
        }
    }

    fn setpgid(&mut self, p: usize) {
        let Process { object, session, .. } = self.processes[p];
        let other = self.acting[self.choices.below(self.acting.len())];
        let other = &self.processes[other];
        if session == object {
            return;
        }
        let group = if other.session == session { other.group } else { object };
        self.join(p, group);
    }

    fn join(&mut self, p: usize, group: usize) {
        let old = std::mem::replace(&mut self.processes[p].group, group);
        self.members[old] -= 1;
        self.members[group] += 1;
    }

    /// A process ends. An init takes its namespace with it; orphans go to the init or subreaper, or
    /// leave the tree.
    fn exit(&mut self, p: usize) {
        if p == 0 {
            return;
        }
        let namespace = self.processes[p].namespace;
        let init = self.namespaces[namespace].init;
        let reaped = self.shape.container || self.shape.subreaper || namespace != 0;
        let zombie = self.choices.chance(self.shape.zombies);
        let children = std::mem::take(&mut self.processes[p].children);
        if reaped && init != p {
            for c in children {
                if self.processes[c].listed {
                    self.processes[c].parent = Some(init);
                    self.processes[init].children.push(c);
                }
            }
        } else {
            let mut gone = children;
            while let Some(c) = gone.pop() {
                gone.append(&mut self.processes[c].children);
                self.end(c, false);
            }
        }
        self.end(p, zombie);
    }

    fn end(&mut self, p: usize, zombie: bool) {
        let process = &mut self.processes[p];
        if !process.listed {
            return;
        }
        self.tasks -= process.threads.len();
        process.threads.clear();
        if self.acting.get(self.seat[p]) == Some(&p) {
            self.acting.swap_remove(self.seat[p]);
            if let Some(&moved) = self.acting.get(self.seat[p]) {
                self.seat[moved] = self.seat[p];
            }
        }
        if !zombie {
            let process = &mut self.processes[p];
            process.listed = false;
            self.members[process.group] -= 1;
            self.tasks -= 1;
        }
    }

    fn image(self) -> ImageHead {
        let offset = if self.choices.chance(30) { 2 + self.choices.below(50) as i32 } else { 1 };
        let parents = if self.choices.chance(50) { offset } else { 1 };
        let mut table = Table {
            pids: PidTable { offset, ..PidTable::default() },
            tag: vec![0; self.objects.len()],
            objects: &self.objects,
        };
        let outside = (self.shape.begin == Begin::Outside).then_some(1);
        let mut tasks = Vec::new();
        let mut stack = vec![0];
        while let Some(p) = stack.pop() {
            let process = &self.processes[p];
            let id = |o: usize| Some(o).filter(|&o| Some(o) != outside);
            for own in std::iter::once(process.object).chain(process.threads.iter().copied()) {
                let pid = table.tag(Some(own), offset);
                let tgid = table.tag(Some(process.object), offset);
                let pgid = table.tag(id(process.group), offset);
                let sid = table.tag(id(process.session), offset);
                let ppid = table.tag(process.parent.map(|p| self.processes[p].object), parents);
                let depth = self.objects[own].len() as u32 - 1;
                tasks.push(TaskIds { pid, ppid, tgid, pgid, sid, depth });
            }
            stack.extend(process.children.iter().rev().filter(|&&c| self.processes[c].listed));
        }
        let mut head = super::bare::head(table.pids, tasks);
        head.extra.root_subreaper = self.shape.subreaper;
        head
    }
}

/// Pid objects in the order of first use.
struct Table<'a> {
    pids: PidTable,
    tag: Vec<i32>,
    objects: &'a [Vec<i32>],
}

impl Table<'_> {
    fn tag(&mut self, object: Option<usize>, first: i32) -> i32 {
        let Some(object) = object else { return 0 };
        if self.tag[object] == 0 {
            self.pids.push(&self.objects[object]);
            self.tag[object] = self.pids.len() as i32;
        }
        self.tag[object] + first - 1
    }
}
