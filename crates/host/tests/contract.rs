//! The contract over the simulation, written down; the lab holds the running kernel against the very same lines.

#[path = "contract/cases.rs"]
mod cases;
#[path = "contract/disk.rs"]
mod disk;
#[path = "contract/network.rs"]
mod network;
#[path = "contract/operations.rs"]
mod operations;
#[path = "contract/rdma.rs"]
mod rdma;
#[path = "contract/simulated.rs"]
mod simulated;
#[path = "contract/switch.rs"]
mod switch;

use expect_test::expect_file;

#[test]
fn the_simulation_answers_as_written_and_as_the_kernel_does_in_the_lab() {
    let mut text = String::new();
    let seam = cases::CASES.iter().chain(&network::CASES).chain(&disk::CASES);
    for case in seam.chain(&operations::CASES) {
        text.push_str(&format!("# {}\n{}\n\n", case.0, simulated::lines(case)));
    }
    for case in &rdma::CASES {
        text.push_str(&format!("# {}\n{}\n\n", case.0, simulated::rdma_lines(case)));
    }
    for case in &switch::CASES {
        text.push_str(&format!("# {}\n{}\n\n", case.0, switch::simulated(case)));
    }
    expect_file!["contract/lines.txt"].assert_eq(&text);
}
