using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.OpenApi;

namespace GpuTasks.Gateway.Tests;

/// <summary>What docs/contract.md says of operations and fields is what the gateway does.</summary>
public sealed partial class ContractTableTests : IAsyncLifetime
{
    private const string Fc = "/2023-03-30";
    private const string F = Fc + "/functions";
    private const string Target = "acs:fc:local-1::functions/sink";

    private static readonly string Page = Read();

    /// <summary>For each structure: an object to which each field is added, and where it goes and comes from.</summary>
    private static readonly Dictionary<string, (string Send, string Path, string? Get, string Base)> Structures = new()
    {
        ["CreateFunctionInput"] = ("POST", F, F + "/{id}", """{"functionName":"{id}","runtime":"custom-container","handler":"h","customContainerConfig":{"image":"i"}}"""),
        ["AsyncInvokeConfigInput"] = ("PUT", F + "/f/async-invoke-config", F + "/f/async-invoke-config", "{}"),
        ["ProvisionConfigInput"] = ("PUT", F + "/f/provision-config", F + "/f/provision-config", "{}"),
        ["ScalingConfigInput"] = ("PUT", F + "/f/scaling-config", F + "/f/scaling-config", "{}"),
        ["ConcurrencyInput"] = ("PUT", F + "/f/concurrency", F + "/f/concurrency", "{}"),
        ["CreateTriggerInput"] = ("POST", F + "/f/triggers", F + "/f/triggers/{id}", """{"triggerName":"{id}","triggerType":"timer","triggerConfig":"{\"cronExpression\":\"@every 5m\"}"}"""),
        ["CreateAliasInput"] = ("POST", F + "/f/aliases", F + "/f/aliases/{id}", """{"aliasName":"{id}","versionId":"1"}"""),
        ["PublishVersionInput"] = ("POST", F + "/f/versions", null, "{}"),
    };

    /// <summary>A value of each field that is not its default; of a refused one a value that is refused.</summary>
    private static readonly Dictionary<string, string> Values = new()
    {
        ["CreateFunctionInput.functionName"] = "\"named\"",
        ["CreateFunctionInput.runtime"] = "\"custom-container\"",
        ["CreateFunctionInput.handler"] = "\"a.b\"",
        ["CreateFunctionInput.cpu"] = "0.5",
        ["CreateFunctionInput.memorySize"] = "1024",
        ["CreateFunctionInput.diskSize"] = "10240",
        ["CreateFunctionInput.gpuConfig.gpuType"] = "\"fc.gpu.ada.1\"",
        ["CreateFunctionInput.gpuConfig.gpuMemorySize"] = "8192",
        ["CreateFunctionInput.timeout"] = "900",
        ["CreateFunctionInput.instanceConcurrency"] = "7",
        ["CreateFunctionInput.idleTimeout"] = "77",
        ["CreateFunctionInput.internetAccess"] = "false",
        ["CreateFunctionInput.environmentVariables"] = """{"A":"b"}""",
        ["CreateFunctionInput.customContainerConfig.port"] = "8080",
        ["CreateFunctionInput.customContainerConfig.entrypoint"] = """["/a"]""",
        ["CreateFunctionInput.customContainerConfig.command"] = """["b"]""",
        ["CreateFunctionInput.customContainerConfig.healthCheckConfig.httpGetUrl"] = "\"/fit\"",
        ["CreateFunctionInput.customContainerConfig.healthCheckConfig.initialDelaySeconds"] = "9",
        ["CreateFunctionInput.customContainerConfig.healthCheckConfig.periodSeconds"] = "9",
        ["CreateFunctionInput.customContainerConfig.healthCheckConfig.timeoutSeconds"] = "2",
        ["CreateFunctionInput.customContainerConfig.healthCheckConfig.failureThreshold"] = "9",
        ["CreateFunctionInput.customContainerConfig.healthCheckConfig.successThreshold"] = "9",
        ["CreateFunctionInput.customContainerConfig.registryConfig.certConfig.insecure"] = "true",
        ["CreateFunctionInput.instanceLifecycleConfig.initializer.timeout"] = "30",
        ["CreateFunctionInput.instanceLifecycleConfig.initializer.command"] = """["x"]""",
        ["CreateFunctionInput.instanceLifecycleConfig.preStop.timeout"] = "30",
        ["CreateFunctionInput.instanceLifecycleConfig.preStop.command"] = """["x"]""",
        ["CreateFunctionInput.layers"] = """[{"arn":"a","size":1}]""",
        ["CreateFunctionInput.disableOndemand"] = "true",
        ["CreateFunctionInput.enableLongLiving"] = "true",
        ["CreateFunctionInput.tags"] = """[{"Key":"k","Value":"v"}]""",
        ["AsyncInvokeConfigInput.asyncTask"] = "true",
        ["AsyncInvokeConfigInput.maxAsyncRetryAttempts"] = "7",
        ["AsyncInvokeConfigInput.maxAsyncEventAgeInSeconds"] = "77",
        ["AsyncInvokeConfigInput.destinationConfig.onSuccess.destination"] = $"\"{Target}\"",
        ["AsyncInvokeConfigInput.destinationConfig.onFailure.destination"] = $"\"{Target}\"",
        ["ProvisionConfigInput.defaultTarget"] = "3",
        ["ProvisionConfigInput.alwaysAllocateCPU"] = "true",
        ["ProvisionConfigInput.alwaysAllocateGPU"] = "true",
        ["ProvisionConfigInput.scheduledActions"] = """[{"name":"a","scheduleExpression":"cron(0 0 8 * * *)","target":2,"startTime":"2090-01-01T00:00:00Z","endTime":"2091-01-01T00:00:00Z","timeZone":"Asia/Shanghai"}]""",
        ["ProvisionConfigInput.targetTrackingPolicies"] = """[{"name":"a","metricType":"ProvisionedConcurrencyUtilization","metricTarget":0.5,"minCapacity":1,"maxCapacity":2,"startTime":"2090-01-01T00:00:00Z","endTime":"2091-01-01T00:00:00Z","timeZone":"Asia/Shanghai"}]""",
        ["ScalingConfigInput.minInstances"] = "3",
        ["ScalingConfigInput.residentPoolId"] = "\"pool\"",
        ["ScalingConfigInput.enableOnDemandScaling"] = "false",
        ["ScalingConfigInput.enableMixMode"] = "true",
        ["ScalingConfigInput.requestDispatchPolicy"] = "\"Balanced\"",
        ["ScalingConfigInput.horizontalScalingPolicies"] = """[{"name":"a","metricType":"ProvisionedConcurrencyUtilization","metricTarget":0.5,"minInstances":1,"maxInstances":2,"startTime":"2090-01-01T00:00:00Z","endTime":"2091-01-01T00:00:00Z","timeZone":"Asia/Shanghai"}]""",
        ["ScalingConfigInput.scheduledPolicies"] = """[{"name":"a","scheduleExpression":"at(2090-01-01T00:00:00Z)","target":2}]""",
        ["ConcurrencyInput.reservedConcurrency"] = "7",
        ["CreateTriggerInput.triggerName"] = "\"named\"",
        ["CreateTriggerInput.triggerType"] = "\"timer\"",
        ["CreateTriggerInput.triggerConfig"] = "\"{\\\"cronExpression\\\":\\\"@every 9m\\\"}\"",
        ["CreateTriggerInput.qualifier"] = "\"1\"",
        ["CreateAliasInput.aliasName"] = "\"named\"",
        ["CreateAliasInput.versionId"] = "\"1\"",
        ["CreateAliasInput.additionalVersionWeight"] = """{"2":0.5}""",
    };

    private GatewayServer server = null!;

    public static TheoryData<string, string, string> Fields() => new(Rows().Select(row => (row.Structure, row.Field, row.State)));

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        for (var i = 0; i < 2; i++)
        {
            Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("POST", $"{F}/f/versions", "{}")).Status);
        }
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public void Every_operation_of_the_contract_that_is_served_is_in_the_table_and_no_other()
    {
        var told = OperationRow().Matches(Page).Select(row => $"{row.Groups[1].Value} {row.Groups[2].Value} {Fc}{row.Groups[3].Value}");
        var served = ApiTable.Operations.Where(operation => operation.Path.StartsWith(Fc, StringComparison.Ordinal)).Select(operation => $"{operation.Name} {operation.Method} {operation.Path}");
        Assert.Equal(served.Order(StringComparer.Ordinal), told.Order(StringComparer.Ordinal));
    }

    /// <summary>Whether each is served to the SDK's satisfaction is then what SdkTests say.</summary>
    [Fact]
    public void Every_operation_of_the_table_is_asked_for_through_the_official_sdk()
    {
        var script = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "sdk", "check.cjs"));
        var operations = OperationRow().Matches(Page).Select(row => row.Groups[1].Value).ToList();
        Assert.NotEmpty(operations);
        Assert.All(operations, name => Assert.Contains($".{char.ToLowerInvariant(name[0])}{name[1..]}WithOptions(", script, StringComparison.Ordinal));
    }

    /// <summary>A field that was added to the gateway or its document must be spoken of here.</summary>
    [Fact]
    public void Every_field_that_the_document_names_is_in_the_table_and_no_other()
    {
        foreach (var (structure, fields) in Rows().GroupBy(row => row.Structure, row => row.Field.Split('.')[0]).Select(group => (group.Key, group.Distinct())))
        {
            var known = Schemas.FieldsOf(structure).Select(field => field.Name).Except(["nodeLostTimeout", "target"]);
            Assert.Equal(known.Order(StringComparer.Ordinal), fields.Order(StringComparer.Ordinal));
        }

        Assert.Equal(Structures.Keys.Order(StringComparer.Ordinal), Rows().Select(row => row.Structure).Distinct().Order(StringComparer.Ordinal));
        Assert.Empty(Values.Keys.Except(Rows().Select(row => $"{row.Structure}.{row.Field}")));
    }

    [Theory]
    [MemberData(nameof(Fields))]
    public async Task A_field_is_given_back_or_refused_as_the_table_says(string structure, string field, string state)
    {
        var (send, path, get, template) = Structures[structure];
        var id = "t" + Guid.NewGuid().ToString("N");
        var body = JsonNode.Parse(template.Replace("{id}", id, StringComparison.Ordinal))!.AsObject();
        var value = JsonNode.Parse(Values.GetValueOrDefault($"{structure}.{field}") ?? ValueOf(structure, field))!;
        if (field is "functionName" or "triggerName" or "aliasName")
        {
            id = (string)value!;
        }

        Complete(body, field);
        Set(body, field.Split('.'), value);
        var answer = await server.CallAsync(send, path, body.ToJsonString());
        if (state == "refused")
        {
            answer.Is(400, "InvalidArgument");
            Assert.Contains(field.Split('.')[^1], answer.Text, StringComparison.Ordinal);
            return;
        }

        Assert.True(answer.Status == HttpStatusCode.OK, answer.Text);
        var read = get is null ? answer.Json : (await server.CallAsync("GET", get.Replace("{id}", id, StringComparison.Ordinal))).Json;
        var found = Find(read, field.Split('.'));
        if (field.EndsWith("password", StringComparison.Ordinal))
        {
            Assert.Null(found);
            Assert.Equal((string?)value, server.Platform.Functions[$"{GatewayServer.Account}/{id}"].Spec.Container.RegistryPassword);
            return;
        }

        Assert.True(JsonContains(found, value), $"sent {value.ToJsonString()}, got back {found?.GetRawText()}");
        if (structure == "CreateFunctionInput")
        {
            // What has no effect is named, and nothing else is.
            var named = read.GetProperty("storedOnly").EnumerateArray().Select(name => name.GetString()!).ToList();
            Assert.Equal(state == "stored only" ? 1 : 0, named.Count);
            Assert.All(named, name => Assert.StartsWith(name, field, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData("GET", "/custom-domains", "custom domains")]
    [InlineData("PUT", "/custom-domains/a.example", "custom domains")]
    [InlineData("POST", "/layers/l/versions", "layers")]
    [InlineData("GET", "/layerarn/x", "layers")]
    [InlineData("GET", "/functions/f/vpc-bindings", "networks")]
    [InlineData("POST", "/functions/f/sessions", "sessions")]
    [InlineData("GET", "/functions/f/sessions/s", "sessions")]
    [InlineData("POST", "/resource-groups", "resource groups")]
    public async Task What_is_out_of_scope_is_refused_and_said(string method, string path, string what)
    {
        var answer = await server.CallAsync(method, Fc + path);
        answer.Is(400, "PathNotSupported");
        Assert.Contains(what, answer.Text, StringComparison.Ordinal);
        Assert.Contains($"/{path.Split('/').Last(part => Page.Contains($"/{part}`", StringComparison.Ordinal))}`", Page, StringComparison.Ordinal);
    }

    /// <summary>Fields that count only together with others.</summary>
    private static void Complete(JsonObject body, string field)
    {
        if (field.StartsWith("gpuConfig.", StringComparison.Ordinal))
        {
            body["gpuConfig"] = new JsonObject { ["gpuType"] = "fc.gpu.tesla.1", ["gpuMemorySize"] = 16_384 };
        }
        else if (field.EndsWith("authConfig.password", StringComparison.Ordinal))
        {
            Set(body, ["customContainerConfig", "registryConfig", "authConfig", "userName"], "u");
        }
    }

    private static string ValueOf(string structure, string field)
    {
        // Of what is only stored any value of its kind will do.
        var type = Schemas.FieldsOf(structure).First(known => known.Name == field.Split('.')[0]).Type;
        return type == "any" ? """{"k":["v"]}""" : "\"some-text\"";
    }

    private static void Set(JsonObject into, string[] path, JsonNode value)
    {
        foreach (var part in path[..^1])
        {
            into[part] ??= new JsonObject();
            into = into[part]!.AsObject();
        }

        into[path[^1]] = value;
    }

    private static JsonElement? Find(JsonElement json, string[] path)
    {
        foreach (var part in path)
        {
            if (!json.TryGetProperty(part, out json))
            {
                return null;
            }
        }

        return json;
    }

    private static bool JsonContains(JsonElement? found, JsonNode sent) => found is { } json && sent switch
    {
        JsonObject members => members.All(member => json.TryGetProperty(member.Key, out var inner) && JsonContains(inner, member.Value!)),
        JsonArray items => json.GetArrayLength() == items.Count && items.Select((item, i) => JsonContains(json[i], item!)).All(same => same),
        _ => JsonNode.DeepEquals(JsonNode.Parse(json.GetRawText()), sent),
    };

    private static IEnumerable<(string Structure, string Field, string State)> Rows() =>
        Page.Split("\n### ").Skip(1).SelectMany(part => FieldRow().Matches(part).Select(row => (part.Split('\n')[0].Trim(), row.Groups[1].Value, row.Groups[2].Value)));

    private static string Read()
    {
        using var stream = typeof(ContractTableTests).Assembly.GetManifestResourceStream("contract.md")!;
        return new StreamReader(stream).ReadToEnd().ReplaceLineEndings("\n");
    }

    [GeneratedRegex(@"^\| ([A-Z][A-Za-z]+) \| ([A-Z]+) `([^`]+)` \|", RegexOptions.Multiline)]
    private static partial Regex OperationRow();

    [GeneratedRegex(@"^\| `([A-Za-z.0-9]+)` \| (honoured|stored only|refused) \|", RegexOptions.Multiline)]
    private static partial Regex FieldRow();
}
