#pragma once
/* Cluster -> struct cluster_config. */

#include "envoy/config/cluster/v3/cluster.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_cluster(struct compiler *c, const Envoy__Config__Cluster__V3__Cluster *cluster,
                     struct cluster_config *out) MUST_USE;
