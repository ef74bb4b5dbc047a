//! Bandwidth groups.

use serde_json::Value;

use crate::service::model::BandwidthGroup;
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::RpcError;
use crate::service::rpc::json::JsonWriter;

/// `group_get`: the groups that the request names, or all of them.
pub fn get(call: &MethodCall<'_>, to: &mut JsonWriter) {
    // Before 4.1, the documented name of the parameter was `group`.
    let names = match call.params.value("name").or_else(|| call.params.value("group")) {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let groups = call.control().groups().into_iter();
    let asked = groups.filter(|group| names.is_empty() || names.contains(&group.name.as_str()));
    to.name("group");
    to.array(asked, |to, group| write(to, &group));
}

fn write(to: &mut JsonWriter, group: &BandwidthGroup) {
    to.object(|to| {
        to.either_name("honorsSessionLimits", "honors_session_limits");
        to.bool(group.honors_session_limits);
        to.name("name");
        to.string(&group.name);
        to.either_name("speed-limit-down", "speed_limit_down");
        to.int(group.down_limit.kilobytes);
        to.either_name("speed-limit-down-enabled", "speed_limit_down_enabled");
        to.bool(group.down_limit.is_enabled);
        to.either_name("speed-limit-up", "speed_limit_up");
        to.int(group.up_limit.kilobytes);
        to.either_name("speed-limit-up-enabled", "speed_limit_up_enabled");
        to.bool(group.up_limit.is_enabled);
    });
}

/// `group_set`: creates or changes a group.
pub fn set(call: &MethodCall<'_>, _to: &mut JsonWriter) -> Result<(), RpcError> {
    let params = call.params;
    let name = params.text("name").unwrap_or_default().trim();
    if name.is_empty() {
        return Err(RpcError::invalid("No group name given"));
    }
    let known = call.control().groups().into_iter().find(|group| group.name == name);
    let mut group = known.unwrap_or_else(|| BandwidthGroup { name: name.to_owned(), ..BandwidthGroup::default() });
    let kilobytes = |name| params.bounded(name, 0, i64::from(u32::MAX));
    group.down_limit.kilobytes = kilobytes("speed_limit_down").unwrap_or(group.down_limit.kilobytes);
    group.down_limit.is_enabled = params.bool("speed_limit_down_enabled").unwrap_or(group.down_limit.is_enabled);
    group.up_limit.kilobytes = kilobytes("speed_limit_up").unwrap_or(group.up_limit.kilobytes);
    group.up_limit.is_enabled = params.bool("speed_limit_up_enabled").unwrap_or(group.up_limit.is_enabled);
    group.honors_session_limits = params.bool("honors_session_limits").unwrap_or(group.honors_session_limits);
    Ok(call.control().set_group(group)?)
}
