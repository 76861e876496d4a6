using GpuTasks.Destinations;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Tests;

/// <summary>What one account has, another can neither see nor change, by whatever operation.</summary>
public sealed class TenancyTests
{
    private static readonly Dictionary<string, string> Bodies = new()
    {
        ["UpdateFunctionInput"] = """{"description":"taken over"}""",
        ["AsyncInvokeConfigInput"] = """{"asyncTask":false}""",
        ["CreateTriggerInput"] = """{"triggerName":"other","triggerType":"timer","triggerConfig":"{\"cronExpression\":\"@every 5m\"}"}""",
        ["UpdateTriggerInput"] = """{"description":"taken over"}""",
        ["ConcurrencyInput"] = """{"reservedConcurrency":1}""",
        ["ProvisionConfigInput"] = """{"defaultTarget":1}""",
        ["ScalingConfigInput"] = """{"minInstances":1}""",
        ["WebhookRotation"] = "{}",
        ["bytes"] = """{"taskId":"secret-task"}""",
    };

    [Fact]
    public async Task Another_account_sees_and_changes_nothing_by_any_operation()
    {
        await using var server = await GatewayServer.StartAsync();
        await server.CreateAsync("secret-function");
        await server.CallAsync("POST", "/2023-03-30/functions/secret-function/triggers",
            """{"triggerName":"secret-trigger","triggerType":"http","triggerConfig":"{\"authType\":\"function\",\"methods\":[\"GET\",\"POST\",\"PUT\",\"DELETE\",\"HEAD\",\"PATCH\",\"OPTIONS\"]}"}""");
        await server.CallAsync("POST", "/2023-03-30/functions/secret-function/invocations", "\"secret-payload\"", headers: [("x-fc-invocation-type", "Async"), ("x-fc-async-task-id", "secret-task")]);
        server.Platform.DeadLetters[$"{GatewayServer.Account}/secret-function/secret-task"] = DestinationTests.Dead("secret-function", "secret-task");
        server.Platform.Topics[(GatewayServer.Account, "secret-topic")] = [new TopicMessage(1, "secret-id", DateTimeOffset.UnixEpoch, "\"secret-body\""u8.ToArray())];
        await server.CallAsync("POST", "/v1/webhooks/secret:rotate");
        string[] watched =
        [
            "/v1/webhooks/secret", "/v1/dead-letters", "/v1/functions/secret-function/tasks/secret-task/dead-letter", "/v1/topics", "/v1/topics/secret-topic/messages",
            "/2023-03-30/functions/secret-function", "/2023-03-30/functions/secret-function/async-invoke-config", "/2023-03-30/functions/secret-function/triggers",
            "/2023-03-30/functions/secret-function/async-tasks/secret-task",
        ];
        var before = await ReadAsync();

        // Creating one of the same name is anybody's right, and an answer to HEAD says nothing.
        foreach (var operation in ApiTable.Operations.Where(operation => operation.Name is not ("CreateFunction" or "GetApiDocument" or "GetApiPage") && operation.Method != "HEAD"))
        {
            var path = operation.Path.Replace("{account}", GatewayServer.Account, StringComparison.Ordinal).Replace("{function}", "secret-function", StringComparison.Ordinal)
                .Replace("{trigger}", "secret-trigger", StringComparison.Ordinal).Replace("{taskId}", "secret-task", StringComparison.Ordinal)
                .Replace("{topic}", "secret-topic", StringComparison.Ordinal).Replace("{**path}", "x", StringComparison.Ordinal);
            var answer = await server.CallAsync(
                operation.Method, path, operation.Body is null ? null : Bodies.GetValueOrDefault(operation.Body, "{}"), GatewayServer.OtherApiKey);

            // An error may say back the name that it was asked for, and nothing else.
            var text = (int)answer.Status >= 400 ? answer.Text.Replace("'secret-function'", "", StringComparison.Ordinal).Replace("'secret-task'", "", StringComparison.Ordinal).Replace("'secret-topic'", "", StringComparison.Ordinal) : answer.Text;
            Assert.False(text.Contains("secret-", StringComparison.Ordinal) && !text.Contains("PathNotSupported", StringComparison.Ordinal), $"{operation.Name}: {text}");
            if (operation.Path.Contains("{function}", StringComparison.Ordinal))
            {
                Assert.True((int)answer.Status is 403 or 404, $"{operation.Name}: {(int)answer.Status} {answer.Text}");
            }
        }

        Assert.Equal(before, await ReadAsync());
        Assert.DoesNotContain(server.Platform.Calls, call => call.StartsWith($"start {GatewayServer.Account}", StringComparison.Ordinal));

        async Task<string> ReadAsync() => string.Concat(await Task.WhenAll(watched.Select(async path => (await server.CallAsync("GET", path)).Text)));
    }
}
