//! Telemetry of any signal in its groups, and what a batch makes of it.

use super::messages::{Input, list, normal_attributes, option, resource, scope, text};
use arbitrary::Result;
use otlp_embed::pb::common::InstrumentationScope;
use otlp_embed::pb::logs::{LogRecord, ResourceLogs, ScopeLogs};
use otlp_embed::pb::metrics::{Metric, ResourceMetrics, ScopeMetrics};
use otlp_embed::pb::resource::Resource;
use prost::Message;

/// The telemetry of one resource.
#[derive(Clone, Debug)]
pub struct Group<I> {
    pub resource: Option<Resource>,
    pub scopes: Vec<ScopeGroup<I>>,
    pub schema_url: String,
}

/// The telemetry of one scope.
#[derive(Clone, Debug)]
pub struct ScopeGroup<I> {
    pub scope: Option<InstrumentationScope>,
    pub items: Vec<I>,
    pub schema_url: String,
}

macro_rules! messages {
    ($item:ty, $group:ident, $scopes:ident, $scope_group:ident, $items:ident) => {
        impl From<Group<$item>> for $group {
            fn from(group: Group<$item>) -> Self {
                let scope = |group: ScopeGroup<$item>| $scope_group {
                    scope: group.scope,
                    $items: group.items,
                    schema_url: group.schema_url,
                };
                $group {
                    resource: group.resource,
                    $scopes: group.scopes.into_iter().map(scope).collect(),
                    schema_url: group.schema_url,
                }
            }
        }
    };
}

messages!(LogRecord, ResourceLogs, scope_logs, ScopeLogs, log_records);
messages!(Metric, ResourceMetrics, scope_metrics, ScopeMetrics, metrics);

/// The groups as messages of their signal.
pub fn messages<I: Clone, M: From<Group<I>>>(groups: &[Group<I>]) -> Vec<M> {
    groups.iter().cloned().map(M::from).collect()
}

/// Groups of items, from any bytes.
pub fn groups<I>(data: &[u8], item: impl Fn(&mut Input<'_>) -> Result<I> + Copy) -> Vec<Group<I>> {
    let scope_group = |input: &mut Input<'_>| {
        Ok(ScopeGroup {
            scope: option(input, scope)?,
            items: list(input, 4, item)?,
            schema_url: text(input)?,
        })
    };
    let group = |input: &mut Input<'_>| {
        Ok(Group {
            resource: option(input, resource)?,
            scopes: list(input, 3, scope_group)?,
            schema_url: text(input)?,
        })
    };
    list(&mut Input::new(data), 3, group).unwrap_or_default()
}

/// The groups without what a batch cannot express.
pub fn normal<I>(mut groups: Vec<Group<I>>, item: impl Fn(&mut I)) -> Vec<Group<I>> {
    for group in &mut groups {
        let mut resource = group.resource.take().unwrap_or_default();
        normal_attributes(&mut resource.attributes);
        group.resource = Some(Resource {
            attributes: resource.attributes,
            ..Default::default()
        });
        for (at, of_scope) in group.scopes.iter_mut().enumerate() {
            if at > 0 {
                of_scope.scope.get_or_insert_default();
            }
            match &mut of_scope.scope {
                Some(scope) => normal_attributes(&mut scope.attributes),
                None => of_scope.schema_url.clear(),
            }
            of_scope.items.iter_mut().for_each(&item);
        }
    }
    groups
}

/// What a batch makes of the groups: each resource once, each scope once in it, nothing empty, and of each item what the
/// function leaves of it.
pub fn grouped<I>(groups: &[Group<I>], item: impl Fn(&I) -> Option<I>) -> Vec<Group<I>> {
    // The batch was made with an empty resource. Without items a resource or a scope counts for the order of the others.
    let mut grouped = vec![Group {
        resource: Some(Resource::default()),
        scopes: vec![],
        schema_url: String::new(),
    }];
    for group in groups {
        let same = |other: &Group<I>| {
            encoded(&other.resource) == encoded(&group.resource) && other.schema_url == group.schema_url
        };
        let at = grouped.iter().position(same).unwrap_or_else(|| {
            grouped.push(Group {
                resource: group.resource.clone(),
                scopes: vec![],
                schema_url: group.schema_url.clone(),
            });
            grouped.len() - 1
        });
        let scopes = &mut grouped[at].scopes;
        // No scope is not known as one before it has an item.
        for of_scope in &group.scopes {
            if of_scope.scope.is_none() && of_scope.items.is_empty() {
                continue;
            }
            let same = |other: &ScopeGroup<I>| {
                encoded(&other.scope) == encoded(&of_scope.scope) && other.schema_url == of_scope.schema_url
            };
            let at = scopes.iter().position(same).unwrap_or_else(|| {
                scopes.push(ScopeGroup {
                    scope: of_scope.scope.clone(),
                    items: vec![],
                    schema_url: of_scope.schema_url.clone(),
                });
                scopes.len() - 1
            });
            scopes[at].items.extend(of_scope.items.iter().filter_map(&item));
        }
    }
    for group in &mut grouped {
        group.scopes.retain(|scope| !scope.items.is_empty());
    }
    grouped.retain(|group| !group.scopes.is_empty());
    grouped
}

/// Encoded for the comparison because NaN is not equal to itself.
fn encoded<M: Message>(message: &Option<M>) -> Option<Vec<u8>> {
    message.as_ref().map(Message::encode_to_vec)
}
