//! The table of [`super`]: every record of the format with its fields, and our own.
//!
//! Source: the published headers of user-cr; `tests/image_fields.rs` compares. A new record of ours
//! needs a number in [`records`], its struct here, and a line in [`FORMS`].
#![forbid(unsafe_code)]

use super::{Count, Field, Form, Kind, List, Need, Struct};
use crate::image::records;
use Kind::{Bytes, Pad, Text};

const U8: Kind = Kind::Number(1);
const U16: Kind = Kind::Number(2);
const U32: Kind = Kind::Number(4);
const U64: Kind = Kind::Number(8);
const I16: Kind = Kind::Signed(2);
const I32: Kind = Kind::Signed(4);
const I64: Kind = Kind::Signed(8);
const X32: Kind = Kind::Hex(4);
const X64: Kind = Kind::Hex(8);
const O32: Kind = Kind::Octal;
const LIMIT: Kind = Kind::Limit;
const SET: Kind = Kind::Set;

const fn must(object: &'static str) -> Kind {
    Kind::Tag(object, Need::Must)
}

const fn may(object: &'static str) -> Kind {
    Kind::Tag(object, Need::May)
}

const fn new(object: &'static str) -> Kind {
    Kind::Tag(object, Need::New)
}

const fn list(name: &'static str, offset: u32, entry: Kind, count: Count, behind: u32) -> List {
    List { name, offset, entry, count, behind }
}

/// Structs: name and size, and of each field the offset, the name and what it is.
macro_rules! structs {
    ($($id:ident = $name:literal $size:literal [$($offset:literal $field:literal $kind:expr),*];)*) => {
        $(static $id: Struct = Struct {
            name: $name,
            size: $size,
            fields: &[$(Field { name: $field, offset: $offset, kind: $kind }),*],
        };)*
    };
}

/// Every type of record, by number.
pub(super) static FORMS: &[(records::Kind, Form)] = &[
    (records::HEADER, Form::Fields(&HEADER)),
    (records::HEADER_ARCH, Form::Fields(&HEADER_ARCH)),
    (records::CONTAINER, Form::Fields(&CONTAINER)),
    (records::BUFFER, Form::Bytes),
    (records::STRING, Form::Text),
    (records::OBJREF, Form::Fields(&OBJREF)),
    (records::LSM_INFO, Form::Text),
    (records::SECURITY, Form::Fields(&LSM)),
    (records::PIDS, Form::Fields(&PIDS)),
    (records::TREE, Form::Fields(&TREE)),
    (records::TASK, Form::Fields(&TASK)),
    (records::TASK_NS, Form::Fields(&TASK_NS)),
    (records::TASK_OBJS, Form::Fields(&TASK_OBJS)),
    (records::RESTART_BLOCK, Form::Fields(&RESTART_BLOCK)),
    (records::THREAD, Form::List(&THREAD, list("tls_array", 24, X64, Count::Always(3), 0))),
    (records::CPU, Form::Fields(&CPU)),
    (records::NS, Form::Fields(&NS)),
    (records::UTS_NS, Form::Fields(&UTSNS)),
    (records::IPC_NS, Form::Fields(&IPCNS)),
    (records::MNT_NS, Form::Never),
    (records::CAPABILITIES, Form::Never),
    (records::USER_NS, Form::Fields(&USER_NS)),
    (records::CRED, Form::Fields(&CRED)),
    (records::USER, Form::Fields(&USER_STRUCT)),
    (records::GROUPINFO, Form::List(&GROUPINFO, list("groups", 12, U32, Count::At(8), 4))),
    (records::TASK_CREDS, Form::Fields(&TASK_CREDS)),
    (records::CPU_FPU, Form::Bytes),
    (records::MM_CONTEXT_LDT, Form::Bytes),
    (records::FILE_TABLE, Form::Fields(&FILE_TABLE)),
    (records::FILE_DESC, Form::Fields(&FILE_DESC)),
    (records::FILE_NAME, Form::Text),
    (
        records::FILE,
        Form::Selected(&[
            (1, &FILE_GENERIC),
            (2, &FILE_PIPE),
            (3, &FILE_PIPE),
            (4, &FILE_SOCKET),
            (5, &FILE_TTY),
            (6, &FILE),
            (7, &FILE_EVENTFD),
        ]),
    ),
    (records::PIPE_BUF, Form::Bytes),
    (records::TTY, Form::Fields(&TTY)),
    (records::TTY_LDISC, Form::Fields(&LDISC_N_TTY)),
    (records::EPOLL_ITEMS, Form::Fields(&EVENTPOLL_ITEMS)),
    (records::MM, Form::Fields(&MM)),
    (records::VMA, Form::Fields(&VMA)),
    (records::PGARR, Form::Fields(&PGARR)),
    (records::HPAGE, Form::Fields(&HPAGE)),
    (records::MM_CONTEXT, Form::Fields(&MM_CONTEXT)),
    (records::FS, Form::Fields(&FS)),
    (records::IPC, Form::Fields(&IPC)),
    (records::IPC_SHM, Form::Fields(&IPC_SHM)),
    (records::IPC_MSG, Form::Fields(&IPC_MSG)),
    (records::IPC_MSG_MSG, Form::Fields(&IPC_MSG_MSG)),
    (records::IPC_SEM, Form::Fields(&IPC_SEM)),
    (records::TASK_SEM_UNDO_LIST, Form::Fields(&TASK_SEM_UNDO_LIST)),
    (records::TASK_SEM_UNDO, Form::Fields(&TASK_SEM_UNDO)),
    (
        records::SIGHAND,
        Form::List(&SIGHAND, list("action", 8, Kind::Struct(&SIGACTION, 1), Count::Always(64), 0)),
    ),
    (records::SIGNAL, Form::Fields(&SIGNAL)),
    (records::SIGNAL_TASK, Form::Fields(&SIGNAL_TASK)),
    (
        records::SIGPENDING,
        Form::List(&SIGPENDING, list("siginfo", 24, Kind::Struct(&SIGINFO, 1), Count::At(8), 0)),
    ),
    (records::SOCKET, Form::Fields(&SOCKET)),
    (records::SOCKET_QUEUE, Form::Fields(&SOCKET_QUEUE)),
    (records::SOCKET_BUFFER, Form::Fields(&SOCKET_BUFFER)),
    (records::SOCKET_FRAG, Form::Fields(&SOCKET_BUFFER_FRAG)),
    (records::SOCKET_UNIX, Form::Fields(&SOCKET_UNIX)),
    (records::SOCKET_INET, Form::Fields(&SOCKET_INET)),
    (records::NET_NS, Form::Fields(&NETNS)),
    (records::NETDEV, Form::Fields(&NETDEV)),
    (records::NETDEV_ADDR, Form::Bytes),
    (records::TAIL, Form::Fields(&TAIL)),
    (records::ERROR, Form::Text),
    (records::SUBREAPER, Form::Fields(&SUBREAPER)),
    (records::VDSO, Form::Fields(&VDSO)),
    (records::RSEQ, Form::Fields(&RSEQ)),
    (records::SETTINGS, Form::Fields(&SETTINGS)),
    (records::POSIX_TIMER, Form::Fields(&POSIX_TIMER)),
    (
        records::GUARDS,
        Form::List(&GUARDS, list("guard", 8, Kind::Struct(&GUARD, 1), Count::Rest, 0)),
    ),
    (records::VMA_NAME, Form::Text),
    (records::SEGMENT, Form::Fields(&SEGMENT)),
    (records::AFFINITY, Form::List(&AFFINITY, list("cpus", 8, X64, Count::Rest, 0))),
    (records::TIMERFD, Form::Fields(&TIMERFD)),
    (records::SIGNALFD, Form::Fields(&SIGNALFD)),
    (records::PIDFD, Form::Fields(&PIDFD)),
    (records::INOTIFY, Form::Fields(&INOTIFY)),
    (records::WATCH, Form::Fields(&WATCH)),
    (records::FILE_LOCK, Form::Fields(&FILE_LOCK)),
    (records::FILE_OWNER, Form::Fields(&FILE_OWNER)),
    (records::UNNAMED, Form::Fields(&UNNAMED)),
    (records::INODE, Form::Fields(&INODE)),
    (records::FILE_WAS, Form::Fields(&FILE_WAS)),
    (records::PIPE_STATE, Form::Fields(&PIPE_STATE)),
    (records::PIPE_PACKETS, Form::List(&PIPE_PACKETS, list("lengths", 8, U32, Count::Rest, 0))),
    (records::SOCKET_MORE, Form::Fields(&SOCKET_MORE)),
    (
        records::SOCKET_OPTIONS,
        Form::List(
            &SOCKET_OPTIONS,
            list("option", 8, Kind::Struct(&SOCKET_OPTION, 1), Count::Rest, 0),
        ),
    ),
    (records::JOB_STOP, Form::Fields(&JOB_STOP)),
    (records::TTY_OUTSIDE, Form::Fields(&TTY_OUTSIDE)),
    (records::TTY_INPUT, Form::Bytes),
    (records::TTY_LINES, Form::List(&TTY_LINES, list("ends", 8, U32, Count::Rest, 0))),
    (records::TTY_OUTPUT, Form::Bytes),
];

structs! {
    OBJREF = "ckpt_hdr_objref" 16 [8 "objtype" U32, 12 "objref" I32];
    CONST = "ckpt_const" 24 [
        0 "task_comm_len" U16, 2 "at_vector_size" U16, 4 "signal_nsig" U16,
        6 "uts_sysname_len" U16, 8 "uts_nodename_len" U16, 10 "uts_release_len" U16,
        12 "uts_version_len" U16, 14 "uts_machine_len" U16, 16 "uts_domainname_len" U16,
        18 "rlimit_nlimits" U16, 20 "n_tty_buf_size" U16, 22 "tty_termios_nccs" U16
    ];
    HEADER = "ckpt_hdr_header" 72 [
        8 "magic" X64, 16 "arch_id" U16, 18 "major" U16, 20 "minor" U16, 22 "patch" U16,
        24 "rev" U16, 32 "constants" Kind::Struct(&CONST, 1), 56 "time" U64, 64 "uflags" X64
    ];
    TAIL = "ckpt_hdr_tail" 16 [8 "magic" X64];
    CONTAINER = "ckpt_hdr_container" 8 [];
    PIDS = "ckpt_hdr_pids" 24 [8 "nr_pids" U32, 12 "nr_vpids" U32, 16 "offset" U32];
    TREE = "ckpt_hdr_tree" 16 [8 "nr_tasks" U32];
    TASK = "ckpt_hdr_task" 80 [
        8 "flags" X32, 12 "state" U32, 16 "exit_state" U32, 20 "exit_code" X32,
        24 "exit_signal" I32, 28 "pdeath_signal" I32, 32 "set_child_tid" X64,
        40 "clear_child_tid" X64, 48 "sas_ss_sp" X64, 56 "sas_ss_size" U32,
        60 "compat_robust_futex_head_len" U32, 64 "compat_robust_futex_list" X32,
        68 "robust_futex_head_len" U32, 72 "robust_futex_list" X64
    ];
    CAPABILITIES = "ckpt_capabilities" 40 [
        0 "cap_i_0" X32, 4 "cap_i_1" X32, 8 "cap_p_0" X32, 12 "cap_p_1" X32,
        16 "cap_e_0" X32, 20 "cap_e_1" X32, 24 "cap_b_0" X32, 28 "cap_b_1" X32,
        32 "securebits" X32, 36 "padding" Pad(4)
    ];
    TASK_CREDS = "ckpt_hdr_task_creds" 16 [8 "cred_ref" must("CRED"), 12 "ecred_ref" must("CRED")];
    CRED = "ckpt_hdr_cred" 96 [
        8 "uid" U32, 12 "suid" U32, 16 "euid" U32, 20 "fsuid" U32, 24 "gid" U32,
        28 "sgid" U32, 32 "egid" U32, 36 "fsgid" U32, 40 "user_ref" must("USER"),
        44 "groupinfo_ref" must("GROUPINFO"), 48 "sec_ref" may("SECURITY_PTR"),
        56 "cap_s" Kind::Struct(&CAPABILITIES, 1)
    ];
    GROUPINFO = "ckpt_hdr_groupinfo" 16 [8 "ngroups" U32];
    LSM = "ckpt_hdr_lsm" 16 [8 "ptrref" new("SECURITY_PTR"), 12 "sectype" U8];
    USER_STRUCT = "ckpt_hdr_user_struct" 16 [8 "uid" U32, 12 "userns_ref" must("USER_NS")];
    USER_NS = "ckpt_hdr_user_ns" 16 [8 "creator_ref" may("USER")];
    TASK_NS = "ckpt_hdr_task_ns" 16 [8 "ns_objref" may("NS")];
    NS = "ckpt_hdr_ns" 24 [
        8 "uts_objref" may("UTS_NS"), 12 "ipc_objref" may("IPC_NS"),
        16 "net_objref" may("NET_NS")
    ];
    TASK_SEM_UNDO_LIST = "ckpt_hdr_task_sem_undo_list" 16 [8 "count" U32];
    TASK_SEM_UNDO = "ckpt_hdr_task_sem_undo" 16 [8 "semid" U32, 12 "semadj_count" U32];
    UTSNS = "ckpt_hdr_utsns" 400 [
        8 "sysname" Text(65), 73 "nodename" Text(65), 138 "release" Text(65),
        203 "version" Text(65), 268 "machine" Text(65), 333 "domainname" Text(65)
    ];
    TASK_OBJS = "ckpt_hdr_task_objs" 32 [
        8 "files_objref" must("FILE_TABLE"), 12 "mm_objref" must("MM"),
        16 "fs_objref" must("FS"), 20 "sem_undo_objref" may("SEM_UNDO"),
        24 "sighand_objref" must("SIGHAND"), 28 "signal_objref" new("SIGNAL")
    ];
    RESTART_BLOCK = "ckpt_hdr_restart_block" 56 [
        8 "function_type" U64, 16 "arg_0" X64, 24 "arg_1" X64, 32 "arg_2" X64,
        40 "arg_3" X64, 48 "arg_4" U64
    ];
    FS = "ckpt_hdr_fs" 16 [8 "umask" O32];
    FILE_TABLE = "ckpt_hdr_file_table" 16 [8 "fdt_nfds" I32];
    FILE_DESC = "ckpt_hdr_file_desc" 24 [
        8 "fd_objref" must("FILE"), 12 "fd_descriptor" I32, 16 "fd_close_on_exec" U32
    ];
    FILE = "ckpt_hdr_file" 48 [
        8 "f_type" U32, 12 "f_mode" X32, 16 "f_flags" X32, 20 "f_credref" must("CRED"),
        24 "f_pos" U64, 32 "f_version" X64, 40 "f_secref" may("SECURITY_PTR")
    ];
    FILE_GENERIC = "ckpt_hdr_file_generic" 48 [0 "common" Kind::Struct(&FILE, 1)];
    FILE_PIPE = "ckpt_hdr_file_pipe" 56 [
        0 "common" Kind::Struct(&FILE, 1), 48 "pipe_objref" new("INODE")
    ];
    FILE_EVENTFD = "ckpt_hdr_file_eventfd" 64 [
        0 "common" Kind::Struct(&FILE, 1), 48 "count" U64, 56 "flags" X32
    ];
    SOCKET = "ckpt_hdr_socket" 120 [
        8 "has_buffers" U8, 16 "socket.flags" X64, 24 "socket.state" U8,
        32 "sock_common.bound_dev_if" U32, 36 "sock_common.reuse" U32,
        40 "sock_common.family" U16, 42 "sock_common.state" U8, 48 "sock.rcvlowat" I64,
        56 "sock.flags" X64, 64 "sock.rcvtimeo" I64, 72 "sock.sndtimeo" I64,
        80 "sock.err" U32, 84 "sock.err_soft" U32, 88 "sock.priority" U32,
        92 "sock.rcvbuf" I32, 96 "sock.sndbuf" I32, 100 "sock.type" U16,
        102 "sock.backlog" I16, 104 "sock.protocol" U8, 105 "sock.state" U8,
        106 "sock.shutdown" U8, 107 "sock.userlocks" U8, 108 "sock.no_check" U8,
        112 "sock.linger" Bytes(8)
    ];
    SOCKET_QUEUE = "ckpt_hdr_socket_queue" 16 [8 "skb_count" U32, 12 "total_bytes" U32];
    SOCKET_BUFFER = "ckpt_hdr_socket_buffer" 104 [
        8 "transport_header" U32, 12 "network_header" U32, 16 "mac_header" U32,
        20 "lin_len" U32, 24 "frg_len" U32, 28 "skb_len" U32, 32 "hdr_len" U32,
        36 "mac_len" U32, 40 "data_offset" U32, 44 "sk_objref" may("SOCK"),
        48 "pr_objref" may("SOCK"), 52 "protocol" U16, 54 "nr_frags" U16, 56 "cb" Bytes(48)
    ];
    SOCKET_BUFFER_FRAG = "ckpt_hdr_socket_buffer_frag" 16 [8 "size" U32, 12 "offset" U32];
    SOCKET_UNIX = "ckpt_hdr_socket_unix" 256 [
        8 "this" must("SOCK"), 12 "peer" may("SOCK"), 16 "peercred" may("CRED"),
        20 "flags" X32, 24 "laddr_len" U32, 28 "raddr_len" U32, 32 "laddr" Bytes(110),
        142 "raddr" Bytes(110)
    ];
    SOCKET_INET = "ckpt_hdr_socket_inet" 328 [
        8 "daddr" U32, 12 "rcv_saddr" U32, 16 "saddr" U32, 20 "dport" U16, 22 "num" U16,
        24 "sport" U16, 26 "uc_ttl" I16, 28 "cmsg_flags" U16, 32 "icsk_ack.timeout" U64,
        40 "icsk_ack.ato" U32, 44 "icsk_ack.lrcvtime" U32, 48 "icsk_ack.last_seg_size" U16,
        50 "icsk_ack.rcv_mss" U16, 52 "icsk_ack.pending" U8, 53 "icsk_ack.quick" U8,
        54 "icsk_ack.pingpong" U8, 55 "icsk_ack.blocked" U8, 56 "tcp.rcv_nxt" U32,
        60 "tcp.copied_seq" U32, 64 "tcp.rcv_wup" U32, 68 "tcp.snd_nxt" U32,
        72 "tcp.snd_una" U32, 76 "tcp.snd_sml" U32, 80 "tcp.rcv_tstamp" U32,
        84 "tcp.lsndtime" U32, 88 "tcp.snd_wl1" U32, 92 "tcp.snd_wnd" U32,
        96 "tcp.max_window" U32, 100 "tcp.mss_cache" U32, 104 "tcp.window_clamp" U32,
        108 "tcp.rcv_ssthresh" U32, 112 "tcp.frto_highmark" U32, 116 "tcp.srtt" U32,
        120 "tcp.mdev" U32, 124 "tcp.mdev_max" U32, 128 "tcp.rttvar" U32,
        132 "tcp.rtt_seq" U32, 136 "tcp.packets_out" U32, 140 "tcp.retrans_out" U32,
        144 "tcp.snd_up" U32, 148 "tcp.rcv_wnd" U32, 152 "tcp.write_seq" U32,
        156 "tcp.pushed_seq" U32, 160 "tcp.lost_out" U32, 164 "tcp.sacked_out" U32,
        168 "tcp.fackets_out" U32, 172 "tcp.tso_deferred" U32, 176 "tcp.bytes_acked" U32,
        180 "tcp.lost_cnt_hint" I32, 184 "tcp.retransmit_high" U32,
        188 "tcp.lost_retrans_low" U32, 192 "tcp.prior_ssthresh" U32,
        196 "tcp.high_seq" U32, 200 "tcp.retrans_stamp" U32, 204 "tcp.undo_marker" U32,
        208 "tcp.undo_retrans" I32, 212 "tcp.total_retrans" U32, 216 "tcp.urg_seq" U32,
        220 "tcp.keepalive_time" U32, 224 "tcp.keepalive_intvl" U32, 228 "tcp.urg_data" U16,
        230 "tcp.advmss" U16, 232 "tcp.frto_counter" U8, 233 "tcp.nonagle" U8,
        234 "tcp.ecn_flags" U8, 235 "tcp.reordering" U8, 236 "tcp.keepalive_probes" U8,
        240 "inet6.saddr" Bytes(16), 256 "inet6.rcv_saddr" Bytes(16),
        272 "inet6.daddr" Bytes(16), 288 "laddr_len" U32, 292 "raddr_len" U32,
        296 "laddr" Bytes(16), 312 "raddr" Bytes(16)
    ];
    FILE_SOCKET = "ckpt_hdr_file_socket" 56 [
        0 "common" Kind::Struct(&FILE, 1), 48 "sock_objref" must("SOCK")
    ];
    NETNS = "ckpt_hdr_netns" 16 [8 "this_ref" must("NET_NS")];
    NETDEV = "ckpt_hdr_netdev" 40 [
        8 "netns_ref" must("NET_NS"), 12 "veth.this_ref" I32, 16 "veth.peer_ref" I32,
        12 "macvlan.mode" X32, 20 "inet_addrs" U32, 24 "type" U16, 26 "flags" U16,
        28 "hwaddr" Bytes(6)
    ];
    EVENTPOLL_ITEMS = "ckpt_hdr_eventpoll_items" 16 [
        8 "epfile_objref" must("FILE"), 12 "num_items" U32
    ];
    MM = "ckpt_hdr_mm" 120 [
        8 "map_count" U32, 12 "exe_objref" may("FILE"), 16 "def_flags" X64, 24 "flags" X64,
        32 "start_code" X64, 40 "end_code" X64, 48 "start_data" X64, 56 "end_data" X64,
        64 "start_brk" X64, 72 "brk" X64, 80 "start_stack" X64, 88 "arg_start" X64,
        96 "arg_end" X64, 104 "env_start" X64, 112 "env_end" X64
    ];
    VMA = "ckpt_hdr_vma" 80 [
        8 "vma_type" U32, 12 "vma_objref" may("FILE"), 16 "ino_objref" new("INODE"),
        20 "_padding" Pad(4), 24 "ino_size" U64, 32 "vm_start" X64, 40 "vm_end" X64,
        48 "vm_page_prot" X64, 56 "vm_flags" X64, 64 "vm_pgoff" X64, 72 "hugetlb_shift" U16
    ];
    PGARR = "ckpt_hdr_pgarr" 16 [8 "nr_pages" U64];
    HPAGE = "ckpt_hdr_hpage" 24 [8 "vaddr" X64, 8 "index" U64, 16 "shift" U16];
    SIGACTION = "ckpt_sigaction" 32 [
        0 "_sa_handler" X64, 8 "sa_flags" X64, 16 "sa_restorer" X64, 24 "sa_mask" SET
    ];
    SIGHAND = "ckpt_hdr_sighand" 8 [];
    SIGINFO = "ckpt_siginfo" 88 [
        0 "csi_signo" U32, 4 "csi_errno" I32, 8 "csi_code" I32, 12 "csi_pid" U32,
        16 "csi_uid" U32, 20 "csi_fd" I32, 24 "csi_tid" U32, 28 "csi_band" U32,
        32 "csi_overrun" U32, 36 "csi_trapno" U32, 40 "csi_status" I32, 44 "csi_int" I32,
        48 "csi_ptr" X64, 56 "csi_utime" U64, 64 "csi_stime" U64, 72 "csi_addr" X64,
        80 "csi_sys_private" I32
    ];
    SIGPENDING = "ckpt_hdr_sigpending" 24 [8 "nr_pending" U32, 16 "signal" SET];
    RLIMIT = "ckpt_rlimit" 16 [0 "rlim_cur" LIMIT, 8 "rlim_max" LIMIT];
    SIGNAL = "ckpt_hdr_signal" 328 [
        8 "rlim" Kind::Struct(&RLIMIT, 16), 264 "it_real_value" U64, 272 "it_real_incr" U64,
        280 "it_virt_value" U64, 288 "it_virt_incr" U64, 296 "it_prof_value" U64,
        304 "it_prof_incr" U64, 312 "tty_objref" may("TTY"), 316 "tty_pgrp" I32,
        320 "tty_old_pgrp" I32
    ];
    SIGNAL_TASK = "ckpt_hdr_signal_task" 16 [8 "blocked" SET];
    IPCNS = "ckpt_hdr_ipcns" 56 [
        8 "shm_ctlmax" U64, 16 "shm_ctlall" U64, 24 "shm_ctlmni" I32, 28 "msg_ctlmax" I32,
        32 "msg_ctlmnb" I32, 36 "msg_ctlmni" I32, 40 "sem_ctl_msl" I32,
        44 "sem_ctl_mns" I32, 48 "sem_ctl_opm" I32, 52 "sem_ctl_mni" I32
    ];
    IPC = "ckpt_hdr_ipc" 16 [8 "ipc_type" U32, 12 "ipc_count" U32];
    IPC_PERMS = "ckpt_hdr_ipc_perms" 56 [
        0 "h" Pad(8), 8 "id" I32, 12 "key" U32, 16 "uid" U32, 20 "gid" U32, 24 "cuid" U32,
        28 "cgid" U32, 32 "mode" X32, 36 "_padding" Pad(4), 40 "seq" U64,
        48 "sec_ref" may("SECURITY_PTR")
    ];
    IPC_SHM = "ckpt_hdr_ipc_shm" 120 [
        8 "perms" Kind::Struct(&IPC_PERMS, 1), 64 "shm_segsz" U64, 72 "shm_atim" U64,
        80 "shm_dtim" U64, 88 "shm_ctim" U64, 96 "shm_cprid" I32, 100 "shm_lprid" I32,
        104 "mlock_uid" U32, 108 "flags" X32, 112 "objref" new("INODE"), 116 "shift" U16
    ];
    IPC_MSG = "ckpt_hdr_ipc_msg" 120 [
        8 "perms" Kind::Struct(&IPC_PERMS, 1), 64 "q_stime" U64, 72 "q_rtime" U64,
        80 "q_ctime" U64, 88 "q_cbytes" U64, 96 "q_qnum" U64, 104 "q_qbytes" U64,
        112 "q_lspid" I32, 116 "q_lrpid" I32
    ];
    IPC_MSG_MSG = "ckpt_hdr_ipc_msg_msg" 24 [
        8 "m_type" I64, 16 "m_ts" U32, 20 "sec_ref" may("SECURITY_PTR")
    ];
    IPC_SEM = "ckpt_hdr_ipc_sem" 88 [
        8 "perms" Kind::Struct(&IPC_PERMS, 1), 64 "sem_otime" U64, 72 "sem_ctime" U64,
        80 "sem_nsems" U32
    ];
    FILE_TTY = "ckpt_hdr_file_tty" 56 [0 "common" Kind::Struct(&FILE, 1), 48 "tty_objref" must("TTY")];
    TTY = "ckpt_hdr_tty" 96 [
        8 "driver_type" U16, 10 "driver_subtype" U16, 12 "link_objref" may("TTY"),
        16 "file_objref" new("FILE"), 20 "_padding" Pad(4), 24 "index" U32, 28 "ldisc" U32,
        32 "flags" X64, 40 "termios.c_iflag" U32, 44 "termios.c_oflag" U32,
        48 "termios.c_cflag" U32, 52 "termios.c_lflag" U32, 56 "termios.c_ispeed" U32,
        60 "termios.c_ospeed" U32, 64 "termios.c_line" U8, 65 "termios.c_cc" Bytes(19),
        88 "winsize.ws_row" U16, 90 "winsize.ws_col" U16, 92 "winsize.ws_xpixel" U16,
        94 "winsize.ws_ypixel" U16
    ];
    LDISC_N_TTY = "ckpt_hdr_ldisc_n_tty" 560 [
        8 "column" U32, 12 "datalen" U32, 16 "canon_column" U32, 20 "canon_datalen" U32,
        24 "canon_data" U32, 28 "minimum_to_wake" U16, 30 "stopped" U8, 31 "hw_stopped" U8,
        32 "flow_stopped" U8, 33 "packet" U8, 34 "ctrl_status" U8, 35 "lnext" U8,
        36 "erasing" U8, 37 "raw" U8, 38 "real_raw" U8, 39 "icanon" U8, 40 "closing" U8,
        41 "padding" Pad(3), 44 "read_flags" Bytes(512)
    ];
    HEADER_ARCH = "ckpt_hdr_header_arch" 16 [
        8 "has_fxsr" U16, 10 "has_xsave" U16, 12 "xstate_size" U16, 14 "_pading" Pad(2)
    ];
    THREAD = "ckpt_hdr_thread" 24 [
        8 "sysenter_return" X64, 16 "thread_info_flags" X32, 20 "gdt_entry_tls_entries" U16,
        22 "sizeof_tls_array" U16
    ];
    CPU = "ckpt_hdr_cpu" 192 [
        8 "r15" X64, 16 "r14" X64, 24 "r13" X64, 32 "r12" X64, 40 "bp" X64, 48 "bx" X64,
        56 "r11" X64, 64 "r10" X64, 72 "r9" X64, 80 "r8" X64, 88 "ax" X64, 96 "cx" X64,
        104 "dx" X64, 112 "si" X64, 120 "di" X64, 128 "orig_ax" X64, 136 "ip" X64,
        144 "sp" X64, 152 "flags" X64, 160 "fs" X64, 168 "gs" X64, 176 "fsindex" U16,
        178 "gsindex" U16, 180 "cs" U16, 182 "ss" U16, 184 "ds" U16, 186 "es" U16,
        188 "used_math" U32
    ];
    MM_CONTEXT = "ckpt_hdr_mm_context" 24 [8 "vdso" X64, 16 "ldt_entry_size" U32, 20 "nldt" U32];
}

// Our own.
structs! {
    SUBREAPER = "subreaper" 8 [];
    VDSO = "vdso" 32 [8 "vdso_size" U64, 16 "vvar_size" U64, 24 "checksum" X64];
    RSEQ = "rseq" 24 [8 "address" X64, 16 "length" U32, 20 "signature" X32];
    SETTINGS = "settings" 88 [
        8 "sched_attr" Kind::Struct(&SCHED_ATTR, 1), 56 "io_priority" X32, 60 "personality" X32,
        64 "timer_slack" U64, 72 "oom_score_adj" I32, 76 "flags" X32, 80 "ambient" X64
    ];
    SCHED_ATTR = "sched_attr" 48 [
        0 "size" U32, 4 "sched_policy" U32, 8 "sched_flags" X64, 16 "sched_nice" I32,
        20 "sched_priority" U32, 24 "sched_runtime" U64, 32 "sched_deadline" U64,
        40 "sched_period" U64
    ];
    AFFINITY = "affinity" 8 [];
    TIMERFD = "timerfd" 40 [
        8 "clock" U32, 12 "flags" X32, 16 "value" U64, 24 "interval" U64, 32 "ticks" U64
    ];
    SIGNALFD = "signalfd" 16 [8 "mask" SET];
    PIDFD = "pidfd" 16 [8 "task" must("PID"), 12 "thread" U32];
    INOTIFY = "inotify" 16 [8 "watches" U32];
    WATCH = "watch" 24 [8 "wd" I32, 12 "mask" X32, 16 "mode" O32];
    FILE_LOCK = "file_lock" 32 [8 "kind" U32, 12 "exclusive" U32, 16 "start" U64, 24 "length" U64];
    FILE_OWNER = "file_owner" 24 [8 "kind" U32, 12 "who" may("PID"), 16 "signal" U32];
    POSIX_TIMER = "posix_timer" 56 [
        8 "id" I32, 12 "clock" I32, 16 "signal" I32, 20 "notify" I32, 24 "value" X64,
        32 "thread" Kind::Tag("PID", Need::May), 40 "left" U64, 48 "interval" U64
    ];
    GUARDS = "guards" 8 [];
    GUARD = "guard" 16 [0 "start" X64, 8 "end" X64];
    SEGMENT = "segment" 48 [
        8 "id" I32, 12 "key" X32, 16 "mode" O32, 20 "flags" X32, 24 "uid" U32, 28 "gid" U32,
        32 "cuid" U32, 36 "cgid" U32, 40 "size" U64
    ];
    UNNAMED = "unnamed" 16 [8 "inode_objref" new("INODE")];
    INODE = "inode" 56 [
        8 "origin" U32, 12 "mode" O32, 16 "uid" U32, 20 "gid" U32, 24 "seals" X32, 32 "size" U64,
        40 "atime" I64, 48 "mtime" I64
    ];
    FILE_WAS = "file_was" 40 [8 "mode" O32, 16 "rdev" X64, 24 "size" U64, 32 "mtime" I64];
    PIPE_STATE = "pipe_state" 16 [8 "size" U32, 12 "flags" X32];
    PIPE_PACKETS = "pipe_packets" 8 [];
    SOCKET_MORE = "socket_more" 48 [
        8 "mode" O32, 12 "uid" U32, 16 "gid" U32, 20 "place" U32, 24 "backlog" U32,
        28 "local_scope" U32, 32 "local_flow" X32, 36 "remote_scope" U32, 40 "remote_flow" X32
    ];
    SOCKET_OPTIONS = "socket_options" 8 [];
    SOCKET_OPTION = "socket_option" 12 [0 "level" I32, 4 "name" I32, 8 "value" I32];
    JOB_STOP = "job_stop" 16 [8 "signal" I32, 12 "untold" U32];
    TTY_LINES = "tty_lines" 8 [];
    TTY_OUTSIDE = "tty_outside" 24 [
        8 "flags" X32, 12 "pgrp" I32, 16 "device" X32, 20 "unused" Pad(4)
    ];
}
