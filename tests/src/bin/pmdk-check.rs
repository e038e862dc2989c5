//! pmdk-check check|repair FILE: PMDK's libpmempool on a raw BTT.
//!
//! `pmempool check`, the program, knows pools by their headers only and takes no raw BTT; the library does when it is told
//! what it gets. A check that may not repair dereferences a null pointer on a BTT (1.12), so this asks for a repair and
//! replies no to each of its questions: a sound medium keeps its bytes. The library is loaded when it is needed, so that
//! nothing of this project depends on it to be built.
//!
//! Exit status: the library's result (0 consistent, 1 not, 2 repaired, 3 cannot repair, 4 error), 64 if there is no library.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::process::exit;
use std::ptr;

/// `struct pmempool_check_args` (libpmempool.h).
#[repr(C)]
struct Arguments {
    path: *const c_char,
    backup_path: *const c_char,
    pool_type: c_int,
    flags: c_int,
}

/// `struct pmempool_check_status`: its message, and the reply.
#[repr(C)]
struct Status {
    kind: c_int,
    message: *const c_char,
    answer: *const c_char,
}

const POOL_TYPE_BTT: c_int = 4;
const REPAIR: c_int = 1;
const ADVANCED: c_int = 1 << 2;
const ALWAYS_YES: c_int = 1 << 3;
const VERBOSE: c_int = 1 << 4;
const FORMAT_STR: c_int = 1 << 5;
const QUESTION: c_int = 2;

type Init = unsafe extern "C" fn(*mut Arguments, usize) -> *mut c_void;
type Check = unsafe extern "C" fn(*mut c_void) -> *mut Status;
type End = unsafe extern "C" fn(*mut c_void) -> c_int;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [how, file] = words.as_slice() else {
        eprintln!("usage: pmdk-check check|repair FILE");
        exit(64)
    };
    let repair = how == "repair";
    let path = CString::new(file.as_str()).expect("an argument has no zero byte");
    let flags = FORMAT_STR | VERBOSE | REPAIR | if repair { ADVANCED | ALWAYS_YES } else { 0 };
    let mut arguments = Arguments { path: path.as_ptr(), backup_path: ptr::null(), pool_type: POOL_TYPE_BTT, flags };
    let answer = if repair { c"yes" } else { c"no" };
    // SAFETY:
    // 1. The three functions have these signatures since libpmempool's first version (libpmempool.h).
    // 2. `arguments` and what it points to live to the end; `init` takes their size.
    // 3. `check` gives null or a status that is valid until it is called again; its message is a C string, and the answer
    //    that it takes lives for ever.
    let result = unsafe {
        let library = libc::dlopen(c"libpmempool.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            eprintln!("there is no libpmempool.so.1");
            exit(64)
        }
        let symbol = |name: &CStr| libc::dlsym(library, name.as_ptr());
        let init: Option<Init> = std::mem::transmute(symbol(c"pmempool_check_init"));
        let check: Option<Check> = std::mem::transmute(symbol(c"pmempool_check"));
        let end: Option<End> = std::mem::transmute(symbol(c"pmempool_check_end"));
        let (Some(init), Some(check), Some(end)) = (init, check, end) else {
            eprintln!("libpmempool.so.1 lacks the checker");
            exit(64)
        };
        let context = init(&raw mut arguments, size_of::<Arguments>());
        if context.is_null() {
            println!("the checker does not begin: {}", std::io::Error::last_os_error());
            exit(4)
        }
        loop {
            let status = check(context);
            if status.is_null() {
                break end(context);
            }
            println!("{}", CStr::from_ptr((*status).message).to_string_lossy());
            if (*status).kind == QUESTION {
                (*status).answer = answer.as_ptr();
            }
        }
    };
    exit(result);
}
