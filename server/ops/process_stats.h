#ifndef TOKEN_BROKER_SERVER_OPS_PROCESS_STATS_H_
#define TOKEN_BROKER_SERVER_OPS_PROCESS_STATS_H_

namespace tokenbroker {

// What Linux says about this process (proc(5)). 0 where it says nothing.
struct ProcessStats {
  double cpu_seconds = 0;  // user and system
  double resident_bytes = 0;
  double open_files = 0;
  double start_time = 0;  // seconds since 1970
};
ProcessStats ReadProcessStats();

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_OPS_PROCESS_STATS_H_
