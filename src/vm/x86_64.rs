//! The interpreter for x86_64: registers only, no stack, no thread area, no relocations.
//!
//! r12 is the current instruction, r15 the status block of the task. All instructions and their fields
//! lie in the shared mapping. A signal handler finds r15 as the interrupted code left it: that is how it
//! knows whose it is.

use std::arch::global_asm;

use crate::program::insn::{INSN_SIZE, Insn, Op, Status};
use crate::sys::ptrace::Registers;

global_asm!(
    ".pushsection .text.usercr_vm, \"ax\", @progbits",
    // Whoever uses these may be compiled into another object of this crate.
    ".irp name, start, orphan, fault, end, launch",
    ".globl usercr_vm_\\name",
    ".hidden usercr_vm_\\name",
    ".endr",
    ".balign 16",
    ".globl usercr_vm_start",
    ".hidden usercr_vm_start",
    "usercr_vm_start:",
    // Entry: r12 and r15 are set by whoever jumps here.
    "30:",
    "mov eax, dword ptr [r12 + {nr}]",
    "mov ebx, dword ptr [r12 + {op}]",
    "mov rdi, [r12 + {arg}]",
    "mov rsi, [r12 + {arg} + 8]",
    "cmp ebx, {fork}",
    "jbe 32f",
    "cmp ebx, {copy}",
    "je 40f",
    "cmp ebx, {wait}",
    "je 41f",
    "cmp ebx, {arrive}",
    "je 42f",
    "cmp ebx, {unless}",
    "je 43f",
    "cmp ebx, {store}",
    "je 44f",
    "cmp ebx, {goto_}",
    "je 45f",
    "cmp ebx, {or_}",
    "je 46f",
    "cmp ebx, {fpu}",
    "je 47f",
    "cmp ebx, {leave_}",
    "je 48f",
    // A system call.
    "32:",
    "mov rdx, [r12 + {arg} + 16]",
    "mov r10, [r12 + {arg} + 24]",
    "mov r8, [r12 + {arg} + 32]",
    "mov r9, [r12 + {arg} + 40]",
    "syscall",
    "cmp rax, -4",
    "je 35f",
    "cmp ebx, {exact}",
    "je 36f",
    "cmp rax, -4096",
    "ja 37f",
    "cmp ebx, {fork}",
    "je 31f",
    "cmp ebx, {try_fork}",
    "jne 33f",
    "31:",
    "test rax, rax",
    "jz 38f",
    // Store the result and go on.
    "33:",
    "mov rcx, [r12 + {dest}]",
    "test rcx, rcx",
    "jz 34f",
    "mov dword ptr [rcx], eax",
    "cmp ebx, {call32}",
    "je 34f",
    "mov qword ptr [rcx], rax",
    "34:",
    "add r12, {size}",
    "jmp 30b",
    // EINTR: again, unless failure does not matter.
    "35:",
    "cmp ebx, {try_}",
    "jne 30b",
    "jmp 33b",
    "36:",
    "cmp rax, [r12 + {expect}]",
    "je 33b",
    "jmp 39f",
    "37:",
    "cmp ebx, {try_}",
    "je 33b",
    "cmp ebx, {try_fork}",
    "je 33b",
    // A failure: say where and why, then run what reports it.
    "39:",
    "mov [r15 + {result}], rax",
    "mov [r15 + {failed}], r12",
    "mov r12, [r15 + {on_failure}]",
    "jmp 30b",
    // The child of a fork.
    "38:",
    "mov rsp, [r12 + {arg} + 16]",
    "mov r15, [r12 + {arg} + 24]",
    "mov r12, [r12 + {target}]",
    "jmp 30b",
    "40:",
    "mov rax, [rsi]",
    "mov [rdi], rax",
    "jmp 34b",
    "41:",
    "mov edx, dword ptr [rdi]",
    "cmp edx, dword ptr [r12 + {expect}]",
    "jae 34b",
    "xor esi, esi", // FUTEX_WAIT
    "xor r10d, r10d",
    "mov eax, 202",
    "syscall",
    "jmp 30b",
    "42:",
    "mov eax, 1",
    "lock xadd dword ptr [rdi], eax",
    "inc eax",
    "cmp eax, dword ptr [r12 + {expect}]",
    "je 34b",
    "jmp 45f",
    "43:",
    "mov eax, dword ptr [rdi]",
    "cmp eax, dword ptr [r12 + {expect}]",
    "je 34b",
    "jmp 45f",
    "44:",
    "mov dword ptr [rdi], esi",
    "jmp 34b",
    "47:",
    "mov eax, -1",
    "mov edx, -1",
    "xrstor64 [rdi]",
    "jmp 34b",
    "48:",
    "mov eax, 11", // munmap
    "jmp qword ptr [r12 + {arg} + 16]",
    "46:",
    "or dword ptr [rdi], esi",
    "jmp 34b",
    "45:",
    "mov r12, [r12 + {target}]",
    "jmp 30b",
    // Signal handlers.
    ".balign 16",
    ".globl usercr_vm_orphan",
    ".hidden usercr_vm_orphan",
    "usercr_vm_orphan:",
    "mov r12, [r15 + {on_orphan}]",
    "jmp 30b",
    ".balign 16",
    ".globl usercr_vm_fault",
    ".hidden usercr_vm_fault",
    "usercr_vm_fault:",
    "mov r12, [r15 + {on_fault}]",
    "jmp 30b",
    ".globl usercr_vm_end",
    ".hidden usercr_vm_end",
    "usercr_vm_end:",
    // The last code of a task that hands itself over: placed where it outlives the shared mapping, with
    // the values behind it filled in. It touches no flag after they are set.
    ".balign 16",
    ".globl usercr_vm_farewell, usercr_vm_farewell_data",
    ".hidden usercr_vm_farewell, usercr_vm_farewell_data",
    "usercr_vm_farewell:",
    "syscall", // munmap, as set by Op::Leave
    "lea rsp, [rip + usercr_vm_farewell_data]",
    "popfq",
    "mov rsp, [rip + usercr_vm_farewell_data + 8]",
    // Signals that wait are taken here, on the program's own stack.
    "mov eax, 14", // rt_sigprocmask(SIG_SETMASK, mask, NULL, 8)
    "mov edi, 2",
    "lea rsi, [rip + usercr_vm_farewell_data + 16]",
    "mov edx, 0",
    "mov r10d, 8",
    "syscall",
    "mov r15, [rip + usercr_vm_farewell_data + 24]",
    "mov r14, [rip + usercr_vm_farewell_data + 32]",
    "mov r13, [rip + usercr_vm_farewell_data + 40]",
    "mov r12, [rip + usercr_vm_farewell_data + 48]",
    "mov rbp, [rip + usercr_vm_farewell_data + 56]",
    "mov rbx, [rip + usercr_vm_farewell_data + 64]",
    "mov r11, [rip + usercr_vm_farewell_data + 72]",
    "mov r10, [rip + usercr_vm_farewell_data + 80]",
    "mov r9, [rip + usercr_vm_farewell_data + 88]",
    "mov r8, [rip + usercr_vm_farewell_data + 96]",
    "mov rax, [rip + usercr_vm_farewell_data + 104]",
    "mov rcx, [rip + usercr_vm_farewell_data + 112]",
    "mov rdx, [rip + usercr_vm_farewell_data + 120]",
    "mov rsi, [rip + usercr_vm_farewell_data + 128]",
    "mov rdi, [rip + usercr_vm_farewell_data + 136]",
    "jmp qword ptr [rip + usercr_vm_farewell_data + 144]",
    ".balign 8",
    "usercr_vm_farewell_data:",
    ".zero 152",
    // The caller itself goes on in the vm: rdi the first instruction, rsi the status block, rdx the
    // stack, rcx the address of the code in the shared mapping.
    ".balign 16",
    ".globl usercr_vm_enter",
    ".hidden usercr_vm_enter",
    "usercr_vm_enter:",
    "mov r12, rdi",
    "mov r15, rsi",
    "mov rsp, rdx",
    "jmp rcx",
    // clone3 in the caller: rdi, rsi as for the system call, rdx the first instruction, rcx the status
    // block, r8 the stack, r9 the address of the code above in the shared mapping. The child never
    // comes back.
    ".balign 16",
    ".globl usercr_vm_launch",
    ".hidden usercr_vm_launch",
    "usercr_vm_launch:",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov r12, rdx",
    "mov r15, rcx",
    "mov r13, r8",
    "mov r14, r9",
    "mov eax, 435",
    "syscall",
    "test rax, rax",
    "jz 50f",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "ret",
    "50:",
    "mov rsp, r13",
    "jmp r14",
    ".popsection",
    nr = const std::mem::offset_of!(Insn, nr),
    op = const std::mem::offset_of!(Insn, op),
    arg = const std::mem::offset_of!(Insn, arg),
    dest = const std::mem::offset_of!(Insn, dest),
    expect = const std::mem::offset_of!(Insn, expect),
    target = const std::mem::offset_of!(Insn, target),
    size = const INSN_SIZE,
    exact = const Op::Exact as u32,
    try_ = const Op::Try as u32,
    fork = const Op::Fork as u32,
    copy = const Op::Copy as u32,
    wait = const Op::Wait as u32,
    arrive = const Op::Arrive as u32,
    unless = const Op::Unless as u32,
    store = const Op::Store as u32,
    call32 = const Op::Call32 as u32,
    goto_ = const Op::Goto as u32,
    or_ = const Op::Or as u32,
    fpu = const Op::Fpu as u32,
    leave_ = const Op::Leave as u32,
    try_fork = const Op::TryFork as u32,
    result = const Status::RESULT,
    failed = const Status::FAILED,
    on_failure = const Status::ON_FAILURE,
    on_orphan = const Status::ON_ORPHAN,
    on_fault = const Status::ON_FAULT,
);

unsafe extern "C" {
    static usercr_vm_start: u8;
    static usercr_vm_orphan: u8;
    static usercr_vm_fault: u8;
    static usercr_vm_end: u8;
    static usercr_vm_farewell: u8;
    static usercr_vm_farewell_data: u8;
    /// The caller goes on in the vm; see the code above.
    pub(super) fn usercr_vm_enter(insn: u64, block: u64, stack: u64, code: u64) -> !;
    /// clone3(2) whose child goes on in the vm; see the code above.
    pub(super) fn usercr_vm_launch(
        clone_args: *const u8,
        size: usize,
        insn: u64,
        block: u64,
        stack: u64,
        code: u64,
    ) -> i64;
}

/// The bytes of the interpreter.
pub(super) fn code() -> &'static [u8] {
    let (start, end) = (&raw const usercr_vm_start, &raw const usercr_vm_end);
    // SAFETY: both symbols delimit one run of bytes in this object's text, written by the assembler.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// Code that unmaps the shared memory, and then goes on with these registers and this signal mask. It
/// may lie anywhere; it needs to be readable and executable.
pub fn farewell(registers: &Registers, mask: u64) -> Vec<u8> {
    let r = registers;
    let values = [
        r.eflags, r.rsp, mask, r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8,
        r.rax, r.rcx, r.rdx, r.rsi, r.rdi, r.rip,
    ];
    let (start, data) = (&raw const usercr_vm_farewell, &raw const usercr_vm_farewell_data);
    // SAFETY: both symbols delimit one run of bytes in this object's text, written by the assembler.
    let code = unsafe { std::slice::from_raw_parts(start, data as usize - start as usize) };
    let mut bytes = code.to_vec();
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Offsets in the code of the handlers of SIGUSR1 (the parent died) and SIGSEGV.
pub fn handlers() -> (u64, u64) {
    let start = (&raw const usercr_vm_start) as u64;
    ((&raw const usercr_vm_orphan) as u64 - start, (&raw const usercr_vm_fault) as u64 - start)
}
