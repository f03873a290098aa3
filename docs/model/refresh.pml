/*
 * The refresh protocol of one grant: brokers, a store with one replica, the provider, an operator,
 * and time. README.md says what stands for what, what is left out, and how to run it.
 *
 * Size, set by -D:
 *   BROKERS   processes that refresh (2 or 3)       ATTEMPTS  leases that are asked for, in all
 *   STRICT    1: the provider rotates the refresh token with each use, the old one is dead at once
 *   FAILOVER  1: the replica may become the primary, once, at any moment
 *   OPERATOR  1: the grant is registered anew and revoked, once each, in any order; 2: registered only
 *
 * What the proof may do without, or must not (each of these makes some configuration fail):
 *   FREEZE             a process may stand still between its last check and its first byte
 *   EPOCH_FENCE        a commit needs the lease
 *   UNCHECKED_ACK      replicas are not waited for
 *   UNCHECKED_VERDICT  ... not before it is believed that others were faster
 *   NO_QUARANTINE      a new primary refreshes at once
 *   FAIL_ANY_GENERATION, COMMIT_ANY_GENERATION   ... do not compare the generation
 *   AGAIN_UNSEEN       a repeated acquire does not ask what its attempt has seen
 *   SPLIT_REPLICAS     a primary that was replaced still has a replica that acknowledges
 *   LOSE_ACKNOWLEDGED  the new primary may lack what was acknowledged (restart from an old file)
 */
#ifndef BROKERS
#define BROKERS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 3
#endif
#ifndef STRICT
#define STRICT 1
#endif
#ifndef FAILOVER
#define FAILOVER 0
#endif
#ifndef OPERATOR
#define OPERATOR 0
#endif

#define ACTIVE 1
#define NEEDS_CONSENT 2
#define REVOKED 3

#define NONE 0
#define HELD 1
#define SENT 2

#define NOT_SENT 1
#define TRANSIENT 2
#define AMBIGUOUS 3
#define DOUBTED 4
#define DEAD 5

#define PRIMARY 0 /* who is the primary now */
#define REPLICA 1 /* what its replica knows */
#define REPLACED 2 /* who was the primary before: goes on for those who have not noticed */
#define EARLIER 3 /* what a file on disk knows */
#if defined(LOSE_ACKNOWLEDGED)
#define COPIES 4
#else
#define COPIES 3
#endif

typedef Record {
  byte generation;
  byte epoch;
  byte owner;      /* the attempt that has or had the lease */
  byte committed;  /* the attempt of the last commit */
  byte consent;    /* from which consent the refresh token is, ... */
  byte rotation;   /* ... and how often it was rotated until then */
  byte state;
  byte phase;
  bit live;        /* the lease has not run out */
  bit ambiguous;
  bit registered;  /* the attempt of the last registration, there being one */
};
Record record[COPIES];

byte attempts; /* that were begun */

/* The provider: the rotation that it honours, of each consent. */
byte honoured[2];
byte in_flight[2]; /* requests that it works on, of each consent */

/* Per broker: which copy it talks to, and its attempt while that is marked and its request not over:
   from the answer MARKED until the provider is done or the connection closed. */
byte talks_to[BROKERS];
byte busy[BROKERS];
bit earlier_mark[BROKERS]; /* busy since before the failover */
bit operator_behind;       /* the operator's broker talks to the replaced primary */

bit failed_over;
bit quarantine;
bit lease_of_before;       /* the primary's lease is one that the replaced one granted */
byte told;                 /* the newest generation that somebody was told is stored */

inline copy(to, from) {
  record[to].generation = record[from].generation;
  record[to].epoch = record[from].epoch;
  record[to].owner = record[from].owner;
  record[to].committed = record[from].committed;
  record[to].consent = record[from].consent;
  record[to].rotation = record[from].rotation;
  record[to].state = record[from].state;
  record[to].phase = record[from].phase;
  record[to].live = record[from].live;
  record[to].ambiguous = record[from].ambiguous;
  record[to].registered = record[from].registered;
}

inline forget(which) {
  record[which].generation = 0;
  record[which].epoch = 0;
  record[which].owner = 0;
  record[which].committed = 0;
  record[which].consent = 0;
  record[which].rotation = 0;
  record[which].state = 0;
  record[which].phase = NONE;
  record[which].live = 0;
  record[which].ambiguous = 0;
  record[which].registered = 0;
}

/* WAIT on the connection of the command before. The replica has taken in all that came before it,
   too. A replaced primary has no replica any more. */
#if defined(UNCHECKED_ACK)
#define ACKNOWLEDGED(s) true
#elif defined(SPLIT_REPLICAS)
#define ACKNOWLEDGED(s) true
#else
#define ACKNOWLEDGED(s) (s == PRIMARY)
#endif
inline replicate(s) {
#if FAILOVER && !defined(UNCHECKED_ACK)
  if
  :: s == PRIMARY && !failed_over -> copy(REPLICA, PRIMARY)
  :: else
  fi
#else
  skip
#endif
}

/* What somebody was told is stored stays so. `told` and who is primary change in two places. */
#if defined(LOSE_ACKNOWLEDGED)
#define TOLD_IS_KEPT skip
#else
#define TOLD_IS_KEPT assert(record[PRIMARY].generation >= told)
#endif
inline tell(s) {
  if
  :: record[s].generation > told -> told = record[s].generation
  :: else
  fi;
  TOLD_IS_KEPT
}

/* ---- The operations, one script each (storage/redis/scripts, storage/protocol.cc) ---- */

#define QUARANTINED(s) (s == PRIMARY && quarantine)
#define LEASED(s) (record[s].phase != NONE && record[s].live)
#define FREE(s) (!QUARANTINED(s) && record[s].state == ACTIVE && !LEASED(s))

inline grant(s, attempt) {
  if
  :: record[s].phase == SENT -> record[s].ambiguous = 1
  :: else
  fi;
  record[s].epoch++;
  record[s].phase = HELD;
  record[s].owner = attempt;
  record[s].live = 1;
  if
  :: s == PRIMARY -> lease_of_before = 0
  :: else
  fi
}

inline take_in(s) {
  epoch = record[s].epoch;
  generation = record[s].generation;
  consent = record[s].consent;
  rotation = record[s].rotation;
  doubtful = record[s].ambiguous
}

/* Gives the lease back where it is the attempt's. */
inline clear_own_lease(s, attempt) {
  if
  :: record[s].owner == attempt && record[s].phase != NONE ->
    record[s].phase = NONE; record[s].owner = 0; record[s].live = 0
  :: else
  fi
}

inline supersede_everything(s) {
  record[s].generation++;
  record[s].epoch++;
  record[s].phase = NONE;
  record[s].owner = 0;
  record[s].live = 0;
  record[s].ambiguous = 0
}

/* ---- A broker ---- */

/* The provider is done with the request, or nobody listens any more. */
inline request_over() {
  in_flight[consent]--;
  busy[me] = 0;
  earlier_mark[me] = 0
}

/* What the provider does with the refresh token of a request: `fresh` is what it hands out. */
inline carry_out() {
  fresh = rotation;
#if STRICT
  honoured[consent]++;
  fresh = honoured[consent];
#endif
}
#define HONOURED (honoured[consent] == rotation)

inline let_lease_run() {
  busy[me] = 0;
  earlier_mark[me] = 0
}

/* What a crash, or the end of an attempt, leaves in the process: nothing. */
inline clear_memory() {
  attempt = 0; epoch = 0; generation = 0; consent = 0; rotation = 0; fresh = 0; doubtful = 0;
  failure = 0
}

/* More: FRESH, also for the holder's own repetition. Less: the holder itself gives the lease back. */
#if defined(AGAIN_UNSEEN)
#define AS_SEEN true
#else
#define AS_SEEN (record[talks_to[me]].generation == generation)
#endif

proctype Broker(byte me) {
  byte attempt, epoch, generation, consent, rotation, fresh, failure;
  bit doubtful;

idle:
end_idle:
  do
  /* acquire */
  :: atomic { attempts < ATTEMPTS && FREE(talks_to[me]) ->
      attempts++; attempt = attempts;
      generation = record[talks_to[me]].generation; /* what it has seen */
      grant(talks_to[me], attempt);
      if
      :: take_in(talks_to[me]); goto held
      :: goto unanswered /* the reply is lost */
      fi }
  :: atomic { talks_to[me] != PRIMARY -> talks_to[me] = PRIMARY } /* notices the failover */
  od;

unanswered: /* acquire once more, by the same attempt */
  if
  :: atomic { record[talks_to[me]].owner == attempt && LEASED(talks_to[me]) &&
        !QUARANTINED(talks_to[me]) && AS_SEEN ->
      take_in(talks_to[me]); goto held }
  :: atomic { FREE(talks_to[me]) && AS_SEEN ->
      grant(talks_to[me], attempt); take_in(talks_to[me]); goto held }
  :: atomic { talks_to[me] != PRIMARY -> talks_to[me] = PRIMARY; goto unanswered }
  :: atomic { clear_memory(); goto idle } /* FRESH, gives up, or dies */
  fi;

held: /* connects to the provider, then mark_sent */
  do
  :: atomic { talks_to[me] != PRIMARY -> talks_to[me] = PRIMARY }
  :: atomic { clear_memory(); goto idle } /* dies */
  :: atomic { failure = NOT_SENT; goto failed } /* no connection, own clock, or no reply in time */
  :: atomic {
      true ->
      if
      :: QUARANTINED(talks_to[me]) || record[talks_to[me]].owner != attempt ||
         record[talks_to[me]].epoch != epoch || !LEASED(talks_to[me]) ->
        failure = NOT_SENT; goto failed /* LOST */
      :: else ->
        record[talks_to[me]].phase = SENT;
        if
        :: talks_to[me] == PRIMARY -> lease_of_before = 0
        :: else
        fi;
        if
        :: skip /* the reply is lost: once more, by the same call */
        ::
#if !defined(FREEZE)
          /* Unless this process is frozen now, its request is over before the lease is. */
          busy[me] = attempt;
#endif
          goto marked
        fi
      fi }
  od;

marked: /* WAIT */
  if
  :: atomic { ACKNOWLEDGED(talks_to[me]) -> replicate(talks_to[me]); goto checked }
  :: atomic { let_lease_run(); goto held } /* not acknowledged, no reply, gone: once more ... */
  :: atomic { let_lease_run(); failure = NOT_SENT; goto failed } /* ... or not */
  :: atomic { let_lease_run(); clear_memory(); goto idle } /* dies */
  fi;

checked: /* the first byte */
  if
  :: atomic {
      assert(in_flight[consent] == 0);
      busy[me] = attempt;
      in_flight[consent]++ }
  :: atomic { let_lease_run(); clear_memory(); goto idle } /* dies */
  fi;

sent:
  if
  :: atomic { HONOURED -> carry_out(); request_over(); goto holding }
  :: atomic { !HONOURED -> request_over(); failure = (doubtful -> DOUBTED : DEAD); goto failed }
  :: atomic { request_over(); failure = TRANSIENT; goto failed }
  /* No answer: carried out or not. Later is the same as now: see README.md. */
  :: atomic { HONOURED -> carry_out(); request_over(); fresh = 0; failure = AMBIGUOUS; goto failed }
  :: atomic { request_over(); failure = AMBIGUOUS; goto failed }
  /* Dies. */
  :: atomic { HONOURED -> carry_out(); request_over(); clear_memory(); goto idle }
  :: atomic { request_over(); clear_memory(); goto idle }
  fi;

holding: /* commit, until it is stored or superseded */
  do
  :: atomic { talks_to[me] != PRIMARY -> talks_to[me] = PRIMARY }
  :: atomic { clear_memory(); goto idle } /* dies: the one way to lose the token */
  :: atomic {
      true ->
      if
      :: record[talks_to[me]].committed == attempt -> goto stored /* DUPLICATE */
      :: record[talks_to[me]].committed != attempt &&
         record[talks_to[me]].state == REVOKED -> goto superseded
#if !defined(COMMIT_ANY_GENERATION)
      :: record[talks_to[me]].committed != attempt &&
         record[talks_to[me]].state != REVOKED &&
         record[talks_to[me]].generation != generation ->
        clear_own_lease(talks_to[me], attempt); goto superseded
#endif
#if defined(EPOCH_FENCE)
      :: record[talks_to[me]].committed != attempt && (record[talks_to[me]].owner != attempt ||
         record[talks_to[me]].epoch != epoch || !LEASED(talks_to[me])) -> goto superseded
#endif
      :: else ->
        /* A result is stored only while what it was made from is current. */
        assert(record[talks_to[me]].state != REVOKED &&
               record[talks_to[me]].consent == consent &&
               record[talks_to[me]].rotation == rotation);
        record[talks_to[me]].generation++;
        record[talks_to[me]].state = ACTIVE;
        record[talks_to[me]].rotation = fresh;
        record[talks_to[me]].ambiguous = 0;
        record[talks_to[me]].committed = attempt;
        clear_own_lease(talks_to[me], attempt);
        goto stored
      fi }
  od;

stored: /* WAIT */
  if
  :: atomic { ACKNOWLEDGED(talks_to[me]) ->
      replicate(talks_to[me]); tell(talks_to[me]); clear_memory(); goto idle }
  :: goto holding /* not acknowledged, or the reply is lost */
  :: atomic { clear_memory(); goto idle } /* dies */
  fi;

superseded:
  if
#if defined(UNCHECKED_VERDICT)
  :: atomic { true ->
#else
  :: atomic { ACKNOWLEDGED(talks_to[me]) -> replicate(talks_to[me]);
#endif
      /* A living process lets go of a token only for something newer. */
      assert(!(record[PRIMARY].generation == generation && record[PRIMARY].consent == consent &&
               record[PRIMARY].rotation != fresh && honoured[consent] == fresh));
      clear_memory(); goto idle }
  :: goto holding
  fi;

failed: /* fail */
  do
  :: atomic { talks_to[me] != PRIMARY -> talks_to[me] = PRIMARY }
  :: atomic { clear_memory(); goto idle } /* gives up, or dies */
  :: atomic {
      true ->
      if
      :: record[talks_to[me]].owner == attempt && record[talks_to[me]].epoch == epoch &&
#if !defined(FAIL_ANY_GENERATION)
         record[talks_to[me]].generation == generation &&
#endif
         record[talks_to[me]].phase != NONE ->
        record[talks_to[me]].phase = NONE; record[talks_to[me]].live = 0;
        if
        :: failure == AMBIGUOUS -> record[talks_to[me]].ambiguous = 1
        :: failure == DOUBTED -> record[talks_to[me]].ambiguous = 0
        :: failure == DEAD ->
          /* A grant is declared dead only if the provider no longer honours what it has. */
          assert(record[talks_to[me]].rotation != honoured[record[talks_to[me]].consent]);
          record[talks_to[me]].state = NEEDS_CONSENT;
          record[talks_to[me]].ambiguous = 0
        :: else
        fi
      :: else /* STALE, or RECORDED before */
      fi;
      if
      :: skip /* the reply is lost */
      :: clear_memory(); goto idle
      fi }
  od
}

/* ---- Whoever registers and revokes ---- */

#define WHERE (operator_behind -> REPLACED : PRIMARY)
active proctype Operator() {
  bit may_register = (OPERATOR > 0), may_revoke = (OPERATOR == 1);
end_idle:
  do
  :: atomic { may_register -> may_register = 0; goto registering }
  :: atomic { may_revoke -> may_revoke = 0; goto revoking }
  od;

registering: /* a consent was given, and the provider has honoured it: keep on until it is stored */
  do
  :: atomic { operator_behind -> operator_behind = 0 }
  :: atomic {
      true ->
      if
      :: record[WHERE].registered /* DUPLICATE */
      :: else ->
        supersede_everything(WHERE);
        record[WHERE].registered = 1;
        record[WHERE].state = ACTIVE;
        record[WHERE].consent = 1;
        record[WHERE].rotation = 0
      fi };
    if
    :: atomic { ACKNOWLEDGED(WHERE) -> replicate(WHERE); tell(WHERE); goto end_idle }
    :: skip
    fi
  :: goto end_idle /* dies */
  od;

revoking:
  do
  :: atomic { operator_behind -> operator_behind = 0 }
  :: atomic {
      true ->
      if
      :: record[WHERE].state == REVOKED /* ALREADY_REVOKED */
      :: else -> supersede_everything(WHERE); record[WHERE].state = REVOKED
      fi };
    if
    :: atomic { ACKNOWLEDGED(WHERE) -> replicate(WHERE); tell(WHERE); goto end_idle }
    :: skip
    fi
  :: goto end_idle /* gives up, or dies */
  od
}

/* ---- Time, replication and failover ---- */

#if BROKERS == 3
#define NOT_BUSY(attempt) (busy[0] != attempt && busy[1] != attempt && busy[2] != attempt)
#define NO_EARLIER_MARK (!earlier_mark[0] && !earlier_mark[1] && !earlier_mark[2])
#else
#define NOT_BUSY(attempt) (busy[0] != attempt && busy[1] != attempt)
#define NO_EARLIER_MARK (!earlier_mark[0] && !earlier_mark[1])
#endif

active proctype Surroundings() {
  byte i;
end_forever:
  do
  /* A lease runs out: before the send whenever it likes, afterwards not before the request is over.
     What the replaced primary granted means nothing by the new one's clock. */
  :: atomic { record[PRIMARY].live && (record[PRIMARY].phase != SENT || lease_of_before ||
        NOT_BUSY(record[PRIMARY].owner)) -> record[PRIMARY].live = 0 }
#if FAILOVER
  :: atomic { failed_over && record[REPLACED].live && (record[REPLACED].phase != SENT ||
        NOT_BUSY(record[REPLACED].owner)) -> record[REPLACED].live = 0 }
  :: atomic { !failed_over -> copy(REPLICA, PRIMARY) }
#if defined(LOSE_ACKNOWLEDGED)
  :: atomic { !failed_over -> copy(EARLIER, PRIMARY) }
#endif
  :: atomic { !failed_over ->
      failed_over = 1;
#if !defined(NO_QUARANTINE)
      quarantine = 1;
#endif
      lease_of_before = 1;
      i = 0;
      do
      :: i < BROKERS ->
        talks_to[i] = REPLACED;
        earlier_mark[i] = (busy[i] != 0);
        i++
      :: else -> break
      od;
      i = 0;
      operator_behind = 1;
      copy(REPLACED, PRIMARY);
#if defined(LOSE_ACKNOWLEDGED)
      if
      :: copy(PRIMARY, EARLIER)
      :: copy(PRIMARY, REPLICA)
      fi;
      forget(EARLIER);
#else
      copy(PRIMARY, REPLICA);
#endif
      forget(REPLICA);
      TOLD_IS_KEPT }
  /* The quarantine is as long as the sent lease. */
  :: atomic { quarantine && NO_EARLIER_MARK -> quarantine = 0 }
#endif
  od
}

init {
  atomic {
    record[PRIMARY].generation = 1;
    record[PRIMARY].state = ACTIVE;
#if FAILOVER
    copy(REPLICA, PRIMARY);
#if defined(LOSE_ACKNOWLEDGED)
    copy(EARLIER, PRIMARY);
#endif
#endif
    told = 1;
    run Broker(0);
    run Broker(1);
#if BROKERS == 3
    run Broker(2);
#endif
  }
}

/* Whether the end is reached: all is done and no step is left. */
#if defined(WITNESS_END)
active proctype Witness() {
  timeout -> assert(attempts < ATTEMPTS)
}
#endif
