#pragma once
/* Network filters: HttpConnectionManager and TcpProxy, with their access logs. */

#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_hcm(
    struct compiler *c,
    const Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager
        *manager,
    struct hcm_config *out) MUST_USE;
bool compile_tcp_proxy(struct compiler *c,
                       const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *proxy,
                       struct tcp_config *out) MUST_USE;
bool compile_access_logs(struct compiler *c, Envoy__Config__Accesslog__V3__AccessLog *const *logs,
                         size_t count, const struct access_log_config **out,
                         uint16_t *out_count) MUST_USE;
