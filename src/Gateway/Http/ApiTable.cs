using GpuTasks.Gateway.Endpoints;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Http;

/// <summary>One operation as callers see it.</summary>
/// <param name="Name">Name by the contract, or ours.</param>
/// <param name="Method">HTTP method.</param>
/// <param name="Path">Path with its parameters in braces.</param>
/// <param name="Summary">What it does.</param>
internal sealed record ApiOperation(string Name, string Method, string Path, string Summary)
{
    /// <summary>Schema of the body; <c>bytes</c> for any; null for none.</summary>
    public string? Body { get; init; }

    /// <summary>Schema of the answer; <c>bytes</c> for any; null for none.</summary>
    public string? Answer { get; init; }

    /// <summary>Query parameters, separated by blanks; <c>:int</c>, <c>:bool</c> or <c>:json</c> after a name that is no text.</summary>
    public string Query { get; init; } = "";

    /// <summary>Request headers that it reads, separated by blanks.</summary>
    public string Headers { get; init; } = "";
}

/// <summary>All operations: the source of names in the audit log and of the OpenAPI document. A test holds it to what is mapped.</summary>
internal static class ApiTable
{
    private const string Fc = "/2023-03-30";
    private const string Page = "limit:int nextToken";

    public static readonly IReadOnlyList<ApiOperation> Operations =
    [
        new("CreateFunction", "POST", Fc + "/functions", "Creates a function.") { Body = "CreateFunctionInput", Answer = "Function" },
        new("ListFunctions", "GET", Fc + "/functions", "Lists functions by name.") { Answer = "ListFunctionsOutput", Query = $"prefix functionName description runtime gpuType tags:json fcVersion resourceGroupId {Page}" },
        new("GetFunction", "GET", Fc + "/functions/{function}", "Gets a function.") { Answer = "Function", Query = "qualifier" },
        new("UpdateFunction", "PUT", Fc + "/functions/{function}", "Changes the named fields of a function.") { Body = "UpdateFunctionInput", Answer = "Function" },
        new("DeleteFunction", "DELETE", Fc + "/functions/{function}", "Deletes a function with its triggers; waiting tasks become Invalid, running ones are stopped."),
        new("InvokeFunction", "POST", Fc + "/functions/{function}/invocations", "Calls a function and waits, or submits a task.") { Body = "bytes", Answer = "bytes", Query = "qualifier", Headers = "x-fc-invocation-type x-fc-async-task-id x-fc-log-type" },
        new("PutAsyncInvokeConfig", "PUT", Fc + "/functions/{function}/async-invoke-config", "Sets rules for asynchronous calls.") { Body = "AsyncInvokeConfigInput", Answer = "AsyncConfig", Query = "qualifier" },
        new("GetAsyncInvokeConfig", "GET", Fc + "/functions/{function}/async-invoke-config", "Gets them.") { Answer = "AsyncConfig", Query = "qualifier" },
        new("DeleteAsyncInvokeConfig", "DELETE", Fc + "/functions/{function}/async-invoke-config", "Removes them.") { Query = "qualifier" },
        new("ListAsyncInvokeConfigs", "GET", Fc + "/async-invoke-configs", "Lists them.") { Answer = "ListAsyncInvokeConfigOutput", Query = $"functionName {Page}" },
        new("PutConcurrencyConfig", "PUT", Fc + "/functions/{function}/concurrency", "Limits how much of a function runs at once, and reserves that for it.") { Body = "ConcurrencyInput", Answer = "ConcurrencyConfig" },
        new("GetConcurrencyConfig", "GET", Fc + "/functions/{function}/concurrency", "Gets the limit.") { Answer = "ConcurrencyConfig" },
        new("DeleteConcurrencyConfig", "DELETE", Fc + "/functions/{function}/concurrency", "Removes the limit."),
        new("ListConcurrencyConfigs", "GET", Fc + "/concurrency-configs", "Lists limits.") { Answer = "ListConcurrencyConfigsOutput", Query = $"functionName {Page}" },
        new("PutProvisionConfig", "PUT", Fc + "/functions/{function}/provision-config", "Says how many instances are kept warm, also by schedule and by use.") { Body = "ProvisionConfigInput", Answer = "ProvisionConfig", Query = "qualifier" },
        new("GetProvisionConfig", "GET", Fc + "/functions/{function}/provision-config", "Gets it, with how many there are; empty if it was never put.") { Answer = "ProvisionConfig", Query = "qualifier" },
        new("DeleteProvisionConfig", "DELETE", Fc + "/functions/{function}/provision-config", "Removes it.") { Query = "qualifier" },
        new("ListProvisionConfigs", "GET", Fc + "/provision-configs", "Lists them.") { Answer = "ListProvisionConfigsOutput", Query = $"functionName {Page}" },
        new("PutScalingConfig", "PUT", Fc + "/functions/{function}/scaling-config", "Says how many instances there are at least, and whether more come on demand.") { Body = "ScalingConfigInput", Answer = "ScalingConfigStatus", Query = "qualifier" },
        new("GetScalingConfig", "GET", Fc + "/functions/{function}/scaling-config", "Gets it, with how many there are; empty if it was never put.") { Answer = "ScalingConfigStatus", Query = "qualifier" },
        new("DeleteScalingConfig", "DELETE", Fc + "/functions/{function}/scaling-config", "Removes it.") { Query = "qualifier" },
        new("ListScalingConfigs", "GET", Fc + "/scaling-configs", "Lists them.") { Answer = "ListScalingConfigsOutput", Query = $"functionName {Page}" },
        new("GetAsyncTask", "GET", Fc + "/functions/{function}/async-tasks/{taskId}", "Gets a task.") { Answer = "AsyncTask", Query = "qualifier" },
        new("ListAsyncTasks", "GET", Fc + "/functions/{function}/async-tasks", "Lists tasks by time.") { Answer = "ListAsyncTaskOutput", Query = $"qualifier status prefix startedTimeBegin:int startedTimeEnd:int sortOrderByTime includePayload:bool {Page}" },
        new("StopAsyncTask", "PUT", Fc + "/functions/{function}/async-tasks/{taskId}/stop", "Stops a task.") { Query = "qualifier" },
        new("PublishFunctionVersion", "POST", Fc + "/functions/{function}/versions", "Publishes the definition as it is as a version that never changes.") { Body = "PublishVersionInput", Answer = "Version" },
        new("ListFunctionVersions", "GET", Fc + "/functions/{function}/versions", "Lists versions by number.") { Answer = "ListVersionsOutput", Query = $"direction {Page}" },
        new("DeleteFunctionVersion", "DELETE", Fc + "/functions/{function}/versions/{version}", "Deletes a version that no alias names; its waiting tasks become Invalid, running ones are stopped."),
        new("CreateAlias", "POST", Fc + "/functions/{function}/aliases", "Names a version, or several by weight.") { Body = "CreateAliasInput", Answer = "Alias" },
        new("ListAliases", "GET", Fc + "/functions/{function}/aliases", "Lists aliases by name.") { Answer = "ListAliasesOutput", Query = $"prefix {Page}" },
        new("GetAlias", "GET", Fc + "/functions/{function}/aliases/{alias}", "Gets an alias.") { Answer = "Alias" },
        new("UpdateAlias", "PUT", Fc + "/functions/{function}/aliases/{alias}", "Changes the named fields of an alias.") { Body = "UpdateAliasInput", Answer = "Alias" },
        new("DeleteAlias", "DELETE", Fc + "/functions/{function}/aliases/{alias}", "Deletes an alias."),
        new("TagResources", "POST", Fc + "/tags-v2", "Gives functions tags.") { Body = "TagResourcesInput" },
        new("UntagResources", "DELETE", Fc + "/tags-v2", "Takes tags away.") { Query = "ResourceId:json ResourceType TagKey:json All:bool" },
        new("ListTagResources", "GET", Fc + "/tags-v2", "Lists tags of functions.") { Answer = "ListTagResourcesOutput", Query = "ResourceType ResourceId:json Tag:json Limit:int NextToken" },
        new("ListInstances", "GET", Fc + "/functions/{function}/instances", "Lists the instances there are.") { Answer = "ListInstancesOutput", Query = "qualifier withAllActive:bool instanceIds:json instanceStatus:json startTimeMs:int endTimeMs:int startKey limit:int" },
        new("DisableFunctionInvocation", "POST", Fc + "/functions/{function}/invoke/disable", "Refuses calls, and ends what runs if asked to; waiting tasks go on waiting.") { Body = "DisableInvocationInput", Answer = "Success" },
        new("EnableFunctionInvocation", "POST", Fc + "/functions/{function}/invoke/enable", "Takes calls again.") { Answer = "Success" },
        new("GetFunctionCode", "GET", Fc + "/functions/{function}/code", "Answers with no address: the code of a container is its image.") { Answer = "FunctionCode", Query = "qualifier" },
        new("DescribeRegions", "GET", Fc + "/regions", "Names the region.") { Answer = "DescribeRegionsOutput", Query = "AcceptLanguage" },
        new("CreateTrigger", "POST", Fc + "/functions/{function}/triggers", "Creates a trigger of type timer or http.") { Body = "CreateTriggerInput", Answer = "Trigger" },
        new("ListTriggers", "GET", Fc + "/functions/{function}/triggers", "Lists a function's triggers by name.") { Answer = "ListTriggersOutput", Query = $"prefix {Page}" },
        new("GetTrigger", "GET", Fc + "/functions/{function}/triggers/{trigger}", "Gets a trigger.") { Answer = "Trigger" },
        new("UpdateTrigger", "PUT", Fc + "/functions/{function}/triggers/{trigger}", "Changes the named fields of a trigger.") { Body = "UpdateTriggerInput", Answer = "Trigger" },
        new("DeleteTrigger", "DELETE", Fc + "/functions/{function}/triggers/{trigger}", "Deletes a trigger."),

        new("GetTaskRecord", "GET", "/v1/functions/{function}/tasks/{taskId}", "Gets all that is known of a task.") { Answer = "TaskRecord" },
        new("GetTaskResult", "GET", "/v1/functions/{function}/tasks/{taskId}/result", "Gets a task's whole answer as it came.") { Answer = "bytes" },
        new("GetTaskLog", "GET", "/v1/functions/{function}/tasks/{taskId}/logs", "Reads what an attempt printed, from a byte on; X-Next-Cursor says where to go on.") { Answer = "bytes", Query = "cursor:int limit:int attempt:int" },
        new("SubmitTasks", "POST", "/v1/functions/{function}/tasks:batch", "Submits many tasks: a line of JSON for each in, a line for each out.") { Body = "bytes", Answer = "bytes", Query = "qualifier" },
        new("GetTaskCounts", "GET", "/v1/functions/{function}/counts", "Counts tasks by status.") { Answer = "TaskCounts" },
        new("GetFunctionStatus", "GET", "/v1/functions/{function}/status", "Shows queue and instances of a function.") { Answer = "FunctionStatus", Query = "qualifier" },
        new("GetTriggerStatus", "GET", "/v1/functions/{function}/triggers/{trigger}", "Shows when a timer fired last and fires next, and what it missed.") { Answer = "TriggerStatus" },
        new("GetWebhookSecret", "GET", "/v1/webhooks/secret", "Says when the secrets were made that webhooks are signed with, and end.") { Answer = "WebhookSecrets" },
        new("RotateWebhookSecret", "POST", "/v1/webhooks/secret:rotate", "Makes a secret to sign webhooks with; the one before is signed with too for a while.") { Body = "WebhookRotation", Answer = "NewWebhookSecret" },
        new("ListDeadLetters", "GET", "/v1/dead-letters", "Lists messages to destinations that were given up, the earliest first.") { Answer = "DeadLetterPage", Query = $"function {Page}" },
        new("ReplayDeadLetters", "POST", "/v1/dead-letters:replay", "Has them delivered after all, up to about 1,000 a call.") { Answer = "ReplayResult", Query = "function" },
        new("GetDeadLetter", "GET", "/v1/functions/{function}/tasks/{taskId}/dead-letter", "Gets a task's message that was given up.") { Answer = "DeadLetter" },
        new("ReplayDeadLetter", "POST", "/v1/functions/{function}/tasks/{taskId}/dead-letter:replay", "Has it delivered after all."),
        new("DeleteDeadLetter", "DELETE", "/v1/functions/{function}/tasks/{taskId}/dead-letter", "Forgets it."),
        new("ListTopics", "GET", "/v1/topics", "Lists internal topics by name.") { Answer = "TopicPage", Query = Page },
        new("ReadTopic", "GET", "/v1/topics/{topic}/messages", "Reads messages of a topic after a number.") { Answer = "TopicMessages", Query = "after:int limit:int" },
        new("DeleteTopic", "DELETE", "/v1/topics/{topic}", "Deletes a topic with its messages."),
        new("GetQuota", "GET", "/v1/quota", "Shows an account's quota of cards.") { Answer = "Quota", Query = "account" },
        new("ListNodes", "GET", "/v1/nodes", "Lists nodes with cards and leases (operator).") { Answer = "NodeList" },
        new("GetAccountQuota", "GET", "/v1/accounts/{account}/quota", "Shows an account's quota of cards and its weight.") { Answer = "Quota" },
        new("SetAccountQuota", "PUT", "/v1/accounts/{account}/quota", "Sets them (operator).") { Body = "QuotaInput", Answer = "Quota" },
        new("DrainNode", "POST", "/v1/nodes/{node}:drain", "Gives a node nothing new; its runs end, or are ended at the deadline (operator).") { Body = "DrainInput", Answer = "Node" },
        new("UndrainNode", "POST", "/v1/nodes/{node}:undrain", "Takes a drain back (operator).") { Answer = "Node" },
        new("DrainCard", "POST", "/v1/cards/{card}:drain", "Gives a card nothing new; its runs end, or are ended at the deadline (operator).") { Body = "DrainInput", Answer = "Node" },
        new("UndrainCard", "POST", "/v1/cards/{card}:undrain", "Takes a drain back (operator).") { Answer = "Node" },
        new("DeclareNodeLost", "POST", "/v1/nodes/{node}:lost", "Declares a silent node lost: its leases end and its tasks run elsewhere (operator)."),
        new("ListAuditEntries", "GET", "/v1/audit", "Lists changes, latest first: an account's own, for the operator all or one account's.") { Answer = "AuditPage", Query = $"account {Page}" },
        new("ListAccounts", "GET", "/v1/accounts", "Lists accounts (operator).") { Answer = "AccountList" },
        new("CreateAccount", "POST", "/v1/accounts", "Creates an account (operator).") { Body = "AccountInput", Answer = "Account" },
        new("GetAccount", "GET", "/v1/accounts/{account}", "Gets an account (operator).") { Answer = "Account" },
        new("UpdateAccount", "PUT", "/v1/accounts/{account}", "Changes, disables or limits an account (operator).") { Body = "AccountInput", Answer = "Account" },
        new("CreateKey", "POST", "/v1/accounts/{account}/keys", "Makes a key; its secret is told this once (operator).") { Body = "KeyInput", Answer = "NewKey" },
        new("UpdateKey", "PUT", "/v1/accounts/{account}/keys/{key}", "Disables or enables a key (operator).") { Body = "KeyChange", Answer = "Account" },
        new("RotateKey", "POST", "/v1/accounts/{account}/keys/{key}/rotate", "Makes a key in place of another, which stays valid for a while (operator).") { Body = "KeyRotation", Answer = "NewKey" },
        new("DeleteKey", "DELETE", "/v1/accounts/{account}/keys/{key}", "Deletes a key (operator)."),
        new("GetApiDocument", "GET", "/v1/openapi.json", "This document; needs no key.") { Answer = "any" },
        new("GetApiPage", "GET", "/v1/openapi", "The same as a page; needs no key.") { Answer = "bytes" },
        new("GetHealth", "GET", "/healthz", "Says that the process lives.") { Answer = "Health" },
        new("GetReadiness", "GET", "/readyz", "Says whether the gateway can serve.") { Answer = "Health" },
        .. HttpTriggerConfig.KnownMethods.Select(method => new ApiOperation(
            $"InvokeHttpTrigger{method}", method, HttpTriggerEndpoint.Pattern, "Hands the request on to the function's web server, and its answer back.")
        {
            Body = method is "GET" or "HEAD" ? null : "bytes",
            Answer = "bytes",
            Headers = "x-fc-invocation-type x-fc-async-task-id",
        }),
    ];

    private static readonly Dictionary<(string Method, string Path), ApiOperation> ByRoute =
        Operations.ToDictionary(operation => (operation.Method, operation.Path));

    /// <summary>Name of the operation that a request is.</summary>
    public static string OperationOf(HttpContext http)
    {
        var path = (http.GetEndpoint() as RouteEndpoint)?.RoutePattern.RawText ?? "";
        return ByRoute.TryGetValue((http.Request.Method, path), out var operation) ? operation.Name : $"{http.Request.Method} {path}";
    }
}
