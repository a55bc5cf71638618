//! Code that a stopped task runs for its tracer, to tell what only the task itself can ask the kernel.
//!
//! Comes in: a [`Job`]. Goes out: the bytes to place in an executable mapping of the task, and the
//! meaning of the page of answers. Never: a change that outlives the code. Between its two stops the
//! tracer collects the answers; when no tracer is left at a stop, the code runs on, unmaps its page,
//! puts back the signal mask, the flags and all registers, and jumps to where the task was. It touches
//! neither the stack nor the FPU.

use super::ptrace::Registers;

/// Bytes of memory that the code maps for the answers.
pub const ANSWERS: usize = 4096;

/// Where the answers lie in that page.
const ACTIONS: usize = 256;
const TIMERS: usize = 2304;

/// Most POSIX timers that one task can be asked about at once.
pub const TIMERS_MAX: usize = 32;

std::arch::global_asm!(
    ".pushsection .rodata.usercr_remote, \"a\", @progbits",
    ".balign 8",
    ".globl usercr_remote_start, usercr_remote_stop1, usercr_remote_stop2",
    ".globl usercr_remote_data, usercr_remote_end",
    ".hidden usercr_remote_start, usercr_remote_stop1, usercr_remote_stop2",
    ".hidden usercr_remote_data, usercr_remote_end",
    "usercr_remote_start:",
    // mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    "mov $9, %eax",
    "xor %edi, %edi",
    "mov $4096, %esi",
    "mov $3, %edx",
    "mov $0x22, %r10d",
    "mov $-1, %r8",
    "xor %r9d, %r9d",
    "syscall",
    "mov %rax, %r12",
    "xor %r13d, %r13d",
    "cmp $-4095, %rax",
    "jae 5f",
    // mincore(page, 4096, page + 200): whether it is there already; in front of the first touch
    "mov $27, %eax",
    "mov %r12, %rdi",
    "mov $4096, %esi",
    "lea 200(%r12), %rdx",
    "syscall",
    // madvise(page, 4096, MADV_DONTNEED) fails where it is locked; then mincore's answer is still there
    "mov $28, %eax",
    "mov %r12, %rdi",
    "mov $4096, %esi",
    "mov $4, %edx",
    "syscall",
    "mov %rax, 192(%r12)",
    // modify_ldt(0, page + 208, 8): bytes read, 0 where there is none
    "mov $154, %eax",
    "xor %edi, %edi",
    "lea 208(%r12), %rsi",
    "mov $8, %edx",
    "syscall",
    "mov %rax, 216(%r12)",
    // sigaltstack(NULL, page)
    "mov $131, %eax",
    "xor %edi, %edi",
    "mov %r12, %rsi",
    "syscall",
    "or %rax, %r13",
    // getitimer(0..2, page + 24 + 32 * i)
    "xor %r14d, %r14d",
    "lea 24(%r12), %rbx",
    "2:",
    "mov $36, %eax",
    "mov %r14d, %edi",
    "mov %rbx, %rsi",
    "syscall",
    "or %rax, %r13",
    "add $32, %rbx",
    "inc %r14d",
    "cmp $3, %r14d",
    "jb 2b",
    // brk(0)
    "mov $12, %eax",
    "xor %edi, %edi",
    "syscall",
    "mov %rax, 120(%r12)",
    // prctl(PR_GET_TID_ADDRESS, page + 128)
    "mov $157, %eax",
    "mov $40, %edi",
    "lea 128(%r12), %rsi",
    "syscall",
    "mov %rax, 160(%r12)",
    // prctl(PR_GET_PDEATHSIG, page + 136)
    "mov $157, %eax",
    "mov $2, %edi",
    "lea 136(%r12), %rsi",
    "syscall",
    "or %rax, %r13",
    // prctl(PR_GET_CHILD_SUBREAPER, page + 140)
    "mov $157, %eax",
    "mov $37, %edi",
    "lea 140(%r12), %rsi",
    "syscall",
    "or %rax, %r13",
    // prctl(PR_GET_SECUREBITS)
    "mov $157, %eax",
    "mov $27, %edi",
    "syscall",
    "mov %rax, 144(%r12)",
    // prctl(PR_GET_DUMPABLE)
    "mov $157, %eax",
    "mov $3, %edi",
    "syscall",
    "mov %rax, 168(%r12)",
    // prctl(PR_GET_TIMERSLACK)
    "mov $157, %eax",
    "mov $30, %edi",
    "syscall",
    "mov %rax, 176(%r12)",
    // prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)
    "mov $157, %eax",
    "mov $42, %edi",
    "xor %esi, %esi",
    "xor %edx, %edx",
    "xor %r10d, %r10d",
    "xor %r8d, %r8d",
    "syscall",
    "mov %rax, 184(%r12)",
    // prctl(PR_GET_MDWE, 0, 0, 0, 0)
    "mov $157, %eax",
    "mov $66, %edi",
    "xor %esi, %esi",
    "xor %edx, %edx",
    "xor %r10d, %r10d",
    "xor %r8d, %r8d",
    "syscall",
    "mov %rax, 224(%r12)",
    // prctl(PR_GET_TSC, page + 232)
    "mov $157, %eax",
    "mov $25, %edi",
    "lea 232(%r12), %rsi",
    "syscall",
    // rt_sigaction(n, NULL, page + 256 + 32 * (n - 1), 8) for each n in the set
    "mov usercr_remote_data+144(%rip), %r14",
    "3:",
    "bsf %r14, %rdi",
    "jz 4f",
    "btr %rdi, %r14",
    "mov %rdi, %rdx",
    "shl $5, %rdx",
    "lea 256(%r12,%rdx), %rdx",
    "inc %edi",
    "xor %esi, %esi",
    "mov $8, %r10d",
    "mov $13, %eax",
    "syscall",
    "or %rax, %r13",
    "jmp 3b",
    "4:",
    // timer_gettime(id, page + 2304 + 32 * i) for each of the ids
    "xor %r14d, %r14d",
    "lea usercr_remote_data+192(%rip), %rbx",
    "7:",
    "cmp usercr_remote_data+184(%rip), %r14d",
    "jae 8f",
    "mov $224, %eax",
    "mov (%rbx,%r14,4), %edi",
    "mov %r14, %rsi",
    "shl $5, %rsi",
    "lea 2304(%r12,%rsi), %rsi",
    "syscall",
    "or %rax, %r13",
    "inc %r14d",
    "jmp 7b",
    "8:",
    "mov %r13, 152(%r12)",
    "5:",
    // tgkill(tgid, tid, signal): a stop where there is a tracer, nothing where there is none
    "mov $234, %eax",
    "mov usercr_remote_data+152(%rip), %edi",
    "mov usercr_remote_data+156(%rip), %esi",
    "mov usercr_remote_data+160(%rip), %edx",
    "syscall",
    "usercr_remote_stop1:",
    // munmap(page, 4096)
    "cmp $-4095, %r12",
    "jae 6f",
    "mov $11, %eax",
    "mov %r12, %rdi",
    "mov $4096, %esi",
    "syscall",
    "6:",
    "mov $234, %eax",
    "mov usercr_remote_data+152(%rip), %edi",
    "mov usercr_remote_data+156(%rip), %esi",
    "mov usercr_remote_data+160(%rip), %edx",
    "syscall",
    "usercr_remote_stop2:",
    // No signal may come while the stack pointer is away: block all of them.
    "mov $14, %eax",
    "mov $2, %edi",
    "lea usercr_remote_data+176(%rip), %rsi",
    "xor %edx, %edx",
    "mov $8, %r10d",
    "syscall",
    "lea usercr_remote_data+128(%rip), %rsp",
    "popfq",
    "mov usercr_remote_data+136(%rip), %rsp",
    // From here on nothing may change the flags. rt_sigprocmask(SIG_SETMASK, &mask, NULL, 8)
    "mov $14, %eax",
    "mov $2, %edi",
    "lea usercr_remote_data+168(%rip), %rsi",
    "mov $0, %edx",
    "mov $8, %r10d",
    "syscall",
    "mov usercr_remote_data+0(%rip), %r15",
    "mov usercr_remote_data+8(%rip), %r14",
    "mov usercr_remote_data+16(%rip), %r13",
    "mov usercr_remote_data+24(%rip), %r12",
    "mov usercr_remote_data+32(%rip), %rbp",
    "mov usercr_remote_data+40(%rip), %rbx",
    "mov usercr_remote_data+48(%rip), %r11",
    "mov usercr_remote_data+56(%rip), %r10",
    "mov usercr_remote_data+64(%rip), %r9",
    "mov usercr_remote_data+72(%rip), %r8",
    "mov usercr_remote_data+80(%rip), %rax",
    "mov usercr_remote_data+88(%rip), %rcx",
    "mov usercr_remote_data+96(%rip), %rdx",
    "mov usercr_remote_data+104(%rip), %rsi",
    "mov usercr_remote_data+112(%rip), %rdi",
    "jmp *usercr_remote_data+120(%rip)",
    ".balign 8",
    // 15 registers, rip 120, flags 128, rsp 136, signals to ask for 144, tgid 152, tid 156,
    // signal 160, mask 168, all signals 176, number of timers 184, their ids (32 bits each) 192
    "usercr_remote_data:",
    ".fill 40, 8, 0",
    "usercr_remote_end:",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    static usercr_remote_start: u8;
    static usercr_remote_stop1: u8;
    static usercr_remote_stop2: u8;
    static usercr_remote_data: u8;
    static usercr_remote_end: u8;
}

/// What one task is to be asked, and how it comes back to where it is.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Registers to go on with when the tracer is gone: no system call half-way (`orig_rax` is not
    /// looked at).
    pub registers: Registers,
    /// Signal mask to go on with.
    pub mask: u64,
    /// Signals whose actions are asked for; bit n-1 is signal n.
    pub actions: u64,
    /// Ids of the POSIX timers that are asked for; of more than [`TIMERS_MAX`] the others are not.
    pub timers: &'a [i32],
    /// Thread-group id, as the task itself sees it.
    pub tgid: i32,
    /// Thread id, likewise.
    pub tid: i32,
    /// The signal that makes the stops: one that the task ignores.
    pub signal: i32,
}

/// Offsets in the code at which it stops: first with the answers, then with its page unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stops {
    /// rip is here when the answers are in the page whose address is in r12 (or r12 is -errno).
    pub answered: u64,
    /// rip is here when nothing of the code but its bytes is left.
    pub done: u64,
}

/// The template: code, then data.
fn template() -> &'static [u8] {
    let (start, end) = (&raw const usercr_remote_start, &raw const usercr_remote_end);
    // SAFETY: the two symbols are the ends of one read-only run of bytes of this file's assembly.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// Bytes that a job needs.
pub fn size() -> usize {
    template().len()
}

/// Where the stops are.
pub fn stops() -> Stops {
    let start = &raw const usercr_remote_start as u64;
    Stops {
        answered: &raw const usercr_remote_stop1 as u64 - start,
        done: &raw const usercr_remote_stop2 as u64 - start,
    }
}

impl Job<'_> {
    /// The bytes to place, at an address that is a multiple of 8; the task starts at the first.
    pub fn bytes(&self) -> Vec<u8> {
        let r = &self.registers;
        let timers = self.timers.get(..TIMERS_MAX).unwrap_or(self.timers);
        let mut words = vec![
            r.r15,
            r.r14,
            r.r13,
            r.r12,
            r.rbp,
            r.rbx,
            r.r11,
            r.r10,
            r.r9,
            r.r8,
            r.rax,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rip,
            r.eflags,
            r.rsp,
            self.actions,
            u64::from(self.tgid as u32) | u64::from(self.tid as u32) << 32,
            u64::from(self.signal as u32),
            self.mask,
            u64::MAX,
            timers.len() as u64,
        ];
        let half = |id: Option<&i32>| u64::from(id.copied().unwrap_or(0) as u32);
        let pairs = timers.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 32);
        words.extend(pairs.chain(std::iter::repeat(0)).take(TIMERS_MAX / 2));
        let data = &raw const usercr_remote_data as usize - &raw const usercr_remote_start as usize;
        let mut bytes = template().get(..data).unwrap_or_default().to_vec();
        bytes.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
        bytes
    }
}

/// How a task that is in the code comes back to where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WayBack {
    /// Its registers; segment bases and segments are those that it has in the code.
    pub registers: Registers,
    /// Signals that it blocks.
    pub mask: u64,
    /// The signal that makes the stops.
    pub signal: i32,
}

impl WayBack {
    /// Reads it from the bytes of a job, by a task with these registers; `None` where the bytes are not
    /// this code.
    pub fn read(job: &[u8], now: &Registers) -> Option<WayBack> {
        let data = &raw const usercr_remote_data as usize - &raw const usercr_remote_start as usize;
        if job.get(..data)? != template().get(..data)? {
            return None;
        }
        let word = |at: usize| {
            let bytes = job.get(data + at..)?.first_chunk::<8>()?;
            Some(u64::from_ne_bytes(*bytes))
        };
        let registers = Registers {
            r15: word(0)?,
            r14: word(8)?,
            r13: word(16)?,
            r12: word(24)?,
            rbp: word(32)?,
            rbx: word(40)?,
            r11: word(48)?,
            r10: word(56)?,
            r9: word(64)?,
            r8: word(72)?,
            rax: word(80)?,
            rcx: word(88)?,
            rdx: word(96)?,
            rsi: word(104)?,
            rdi: word(112)?,
            rip: word(120)?,
            eflags: word(128)?,
            rsp: word(136)?,
            orig_rax: u64::MAX,
            ..*now
        };
        Some(WayBack { registers, mask: word(168)?, signal: word(160)? as u32 as i32 })
    }
}

/// Whether new mappings of a process are locked in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// They are not.
    Nothing,
    /// They are, and filled at once (MCL_FUTURE).
    AtOnce,
    /// Each page when it is first touched (MCL_FUTURE and MCL_ONFAULT).
    OnFault,
}

/// What a task has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// sigaltstack(2): address, flags (SS_*), bytes.
    pub altstack: (u64, i32, u64),
    /// getitimer(2) of ITIMER_REAL, _VIRTUAL, _PROF: interval and time left, in microseconds.
    pub itimers: [(u64, u64); 3],
    /// The program break.
    pub brk: u64,
    /// Address of the word that is cleared when the thread ends; `None` where the kernel does not say.
    pub clear_child_tid: Option<u64>,
    /// Parent-death signal.
    pub pdeath_signal: i32,
    /// Whether it is a child subreaper.
    pub subreaper: bool,
    /// Securebits, see capabilities(7).
    pub securebits: u32,
    /// prctl(2), PR_GET_DUMPABLE.
    pub dumpable: u32,
    /// Timer slack of the thread in nanoseconds.
    pub timer_slack: u64,
    /// Whether transparent huge pages are off for the process.
    pub thp_disabled: bool,
    /// prctl(2), PR_GET_MDWE; 0 where the kernel does not know it.
    pub mdwe: u32,
    /// Whether reading the time stamp counter sends SIGSEGV to the thread.
    pub no_tsc: bool,
    /// What mlockall(2) has set for new mappings.
    pub locks: Locks,
    /// Whether it has entries in the local descriptor table, see modify_ldt(2).
    pub has_ldt: bool,
    /// POSIX timers that were asked for: nanoseconds left (0: off) and interval.
    pub timers: Vec<(u64, u64)>,
    /// Actions of the signals that were asked for: handler, flags, restorer, mask.
    pub actions: [[u64; 4]; 64],
}

impl Answers {
    /// Reads the page of answers to a job with so many POSIX timers; `None` where one of the calls failed.
    pub fn parse(page: &[u8; ANSWERS], timers: usize) -> Option<Answers> {
        let word = |at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&page[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        let half = |at: usize| word(at) as u32;
        if word(152) != 0 {
            return None;
        }
        let micros = |at: usize| word(at).wrapping_mul(1_000_000).wrapping_add(word(at + 8));
        let timer = |i: usize| (micros(24 + 32 * i), micros(24 + 32 * i + 16));
        let mut actions = [[0u64; 4]; 64];
        for (i, action) in actions.iter_mut().enumerate() {
            let at = ACTIONS + 32 * i;
            *action = [word(at), word(at + 8), word(at + 16), word(at + 24)];
        }
        let nanos = |at: usize| word(at).wrapping_mul(1_000_000_000).wrapping_add(word(at + 8));
        let posix = |i: usize| {
            let at = TIMERS + 32 * i;
            (nanos(at + 16), nanos(at))
        };
        Some(Answers {
            altstack: (word(0), half(8) as i32, word(16)),
            itimers: [timer(0), timer(1), timer(2)],
            brk: word(120),
            clear_child_tid: (word(160) == 0).then_some(word(128)),
            pdeath_signal: half(136) as i32,
            subreaper: half(140) != 0,
            securebits: u32::try_from(word(144)).unwrap_or(0),
            dumpable: u32::try_from(word(168)).unwrap_or(0),
            timer_slack: word(176),
            thp_disabled: word(184) == 1,
            mdwe: u32::try_from(word(224)).unwrap_or(0),
            no_tsc: half(232) == libc::PR_TSC_SIGSEGV as u32,
            locks: match (word(192), word(200) & 1) {
                (0, _) => Locks::Nothing,
                (_, 0) => Locks::OnFault,
                _ => Locks::AtOnce,
            },
            has_ldt: word(216) as i64 > 0,
            timers: (0..timers.min(TIMERS_MAX)).map(posix).collect(),
            actions,
        })
    }
}
