package rollout_test

import _ "time/tzdata" // the programs have it from functions/rollout
