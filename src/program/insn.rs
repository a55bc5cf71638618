//! One instruction of a program, in the layout that the vm reads.

/// What an instruction does. The numbers are known to the vm's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// A system call that must not fail. EINTR: again.
    Call = 0,
    /// A system call whose failure does not matter.
    Try = 1,
    /// A system call whose result must be `expect`. EINTR: again.
    Exact = 2,
    /// clone3(2): `arg[2]` is the child's stack, `arg[3]` its status block; the child goes on at `target`.
    Fork = 3,
    /// Copies the 64-bit word at `arg[1]` into the next instruction, `arg[0]` bytes behind its start.
    Copy = 4,
    /// Waits until the 32-bit word at `arg[0]` (a futex) is at least `expect`.
    Wait = 5,
    /// Adds 1 to the 32-bit word at `arg[0]`; goes to `target` unless it is now `expect`.
    Arrive = 6,
    /// Goes to `target` where the 32-bit word at `arg[0]` is not `expect`.
    Unless = 7,
    /// Stores `arg[1]` in the 32-bit word at `arg[0]`.
    Store = 8,
    /// As `Call`, and stores 32 bits of the result at `dest` instead of 64.
    Call32 = 9,
    /// Goes to `target`; [`EPILOGUE`] is the program in the shared page.
    Goto = 10,
    /// Sets bits of `arg[1]` in the 32-bit word at `arg[0]`.
    Or = 11,
    /// Loads the FPU from the XSAVE area at `arg[0]`, a multiple of 64.
    Fpu = 12,
    /// Goes for good: runs the code at `arg[2]`, which makes munmap(`arg[0]`, `arg[1]`) first.
    Leave = 13,
    /// As `Fork`, but goes on where there is no room for another task. It is for threads that help.
    TryFork = 14,
}

/// One instruction. In a [`Program`](super::Program), `target` counts instructions of the same program
/// ([`Op::Fork`], [`Op::TryFork`]: it is the index of the child's program); the vm's loader turns it into
/// an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Number of the system call.
    pub nr: u32,
    /// What to do.
    pub op: Op,
    /// Arguments.
    pub arg: [u64; 6],
    /// Address where the result goes; 0: nowhere.
    pub dest: u64,
    /// What is compared with.
    pub expect: u64,
    /// Where to go.
    pub target: u64,
}

/// The `target` of an [`Op::Goto`] to the program in the shared page.
pub const EPILOGUE: u64 = u64::MAX;

/// Bytes of an instruction.
pub const INSN_SIZE: u64 = 80;
const _: () = assert!(std::mem::size_of::<Insn>() as u64 == INSN_SIZE);

impl Insn {
    /// An instruction without system call, arguments or target.
    pub const fn new(op: Op) -> Self {
        Insn { nr: 0, op, arg: [0; 6], dest: 0, expect: 0, target: 0 }
    }

    /// A system call with its arguments; the others are 0.
    pub fn call(op: Op, nr: libc::c_long, args: &[u64]) -> Self {
        let mut insn = Insn { nr: nr as u32, ..Insn::new(op) };
        for (slot, value) in insn.arg.iter_mut().zip(args) {
            *slot = *value;
        }
        insn
    }
}

/// Where things lie in the memory that coordinator and tasks share, as offsets from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Address of the first byte, the same in the coordinator and in every task.
    pub base: u64,
    /// How many tasks there are.
    pub tasks: u64,
    /// Bytes of stack that each task has for signal frames.
    pub stack: u64,
}

impl Layout {
    /// The code of the vm: one page, mapped without write permission.
    pub const CODE: u64 = 0;
    /// The words that all tasks share, and the coordinator task's last instructions.
    pub const SHARED: u64 = 4096;
    /// Offset in the shared words of the last instructions of a coordinator task.
    pub const EPILOGUE: u64 = 1024;
    /// Offset in the shared words of results that the coordinator is to look at.
    const NOTES: u64 = 128;
    /// Offset in the shared words of what the coordinator task learns of those that end.
    const ENDED: u64 = 256;
    /// One status block a task.
    pub const BLOCKS: u64 = 8192;
    /// Bytes of a status block.
    pub const BLOCK: u64 = 64;

    /// Address of the stage that the coordinator has released.
    pub fn go(&self) -> u64 {
        self.base + Self::SHARED
    }

    /// Address of the count of tasks that have arrived at the end of `stage`.
    pub fn arrived(&self, stage: Stage) -> u64 {
        self.base + Self::SHARED + 64 + 4 * stage as u64
    }

    /// Address of the word for result `index` (0 to 7) of a call whose failure is to be told, not fatal.
    pub fn note(&self, index: u64) -> u64 {
        self.base + Self::SHARED + Self::NOTES + 8 * index
    }

    /// Address of the coordinator task's siginfo number `index` (0 or 1), and of a result behind both.
    pub fn ended(&self, index: u64) -> u64 {
        self.base + Self::SHARED + Self::ENDED + 128 * index
    }

    /// Address of the status block of a task.
    pub fn block(&self, task: usize) -> u64 {
        self.base + Self::BLOCKS + Self::BLOCK * task as u64
    }

    /// Address of the word where a task keeps its own pid, as its pid namespace numbers it.
    pub fn pid(&self, task: usize) -> u64 {
        self.block(task) + Status::PID
    }

    /// Address of a word that other threads of a task's group wait for.
    pub fn ready(&self, task: usize) -> u64 {
        self.block(task) + Status::READY
    }

    /// Address behind the last byte of a task's stack.
    pub fn stack_top(&self, task: usize) -> u64 {
        self.stacks() + self.stack * (task as u64 + 1)
    }

    fn stacks(&self) -> u64 {
        (self.base + Self::BLOCKS + Self::BLOCK * self.tasks).next_multiple_of(4096)
    }

    /// Address of the bytes that system calls refer to.
    pub fn data(&self) -> u64 {
        self.stacks() + self.stack * self.tasks
    }
}

/// Offsets in a status block, which the vm's code knows.
pub struct Status;

impl Status {
    /// Address of the instruction that failed, 0 for none.
    pub const FAILED: u64 = 0;
    /// Its result: an errno negated, or an unexpected value.
    pub const RESULT: u64 = 8;
    /// Address of the instructions that report a failure and end the task.
    pub const ON_FAILURE: u64 = 16;
    /// Address of the instructions to run when the parent has died (SIGUSR1).
    pub const ON_ORPHAN: u64 = 24;
    /// Address of the instructions to run on SIGSEGV.
    pub const ON_FAULT: u64 = 32;
    /// The task's own pid.
    pub const PID: u64 = 40;
    /// Becomes 1 when memory and files of the thread group are in place.
    pub const READY: u64 = 48;
}

/// The stages of a restart. Each ends with a barrier: all tasks arrive, then the coordinator lets all go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Stage {
    /// Every task exists, in its session.
    Fork = 1,
    /// Every task is in its process group.
    Groups = 2,
    /// Ghosts and placeholders are gone.
    Ghosts = 3,
    /// Memory, files and signals are in place.
    Restore = 4,
    /// Nothing is left to do but to take the vm away.
    Ready = 5,
    /// The coordinator task no longer depends on the coordinator.
    Alone = 6,
    /// Every task but those that are still to change it is in its process group; then one more at a time.
    /// Only where there are such tasks. Nobody waits for the coordinator.
    Joined = 7,
    /// Nothing of the restart is open any more. Only where events of files are to be told (inotify); nobody waits
    /// for the coordinator.
    Closed = 8,
}
