using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.OpenApi;
using GpuTasks.Gateway.Validation;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Gateway.Tests;

/// <summary>The document says what is there: neither more nor less.</summary>
public sealed class ApiDocumentTests
{
    [Fact]
    public async Task Every_mapped_route_is_in_the_document_and_nothing_else()
    {
        await using var server = await GatewayServer.StartAsync();
        string[] ofTests = ["/dashboard", "/breaks", "/{**path}"];
        var mapped = server.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>()
            .Where(endpoint => !ofTests.Contains(endpoint.RoutePattern.RawText))
            .SelectMany(endpoint => (endpoint.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods ?? HttpTriggerConfig.KnownMethods)
                .Where(method => method != "HEAD" || endpoint.RoutePattern.RawText!.StartsWith("/http/", StringComparison.Ordinal))
                .Select(method => $"{method} {endpoint.RoutePattern.RawText!.Replace("{**", "{", StringComparison.Ordinal)}"));
        var answer = await server.CallAsync("GET", "/v1/openapi.json", key: "no-key-is-needed");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        var said = answer.Json.GetProperty("paths").EnumerateObject()
            .SelectMany(path => path.Value.EnumerateObject().Select(method => $"{method.Name.ToUpperInvariant()} {path.Name}"));
        Assert.Equal(mapped.Order(StringComparer.Ordinal), said.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_structure_that_is_named_is_described_and_names_are_unique()
    {
        var text = JsonDocument.Parse(ApiDocument.Json).RootElement.GetRawText();
        var named = Regex.Matches(text, "#/components/schemas/([A-Za-z]+)").Select(match => match.Groups[1].Value).Distinct();
        Assert.All(named, name => Assert.Contains(name, Schemas.All.Keys));
        Assert.Distinct(ApiTable.Operations.Select(operation => operation.Name));
        Assert.All(Schemas.All.Keys, name => Assert.NotEmpty(Schemas.FieldsOf(name)));
    }

    [Fact]
    public async Task Answers_have_only_fields_that_the_document_names()
    {
        await using var server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        await server.CallAsync("POST", "/2023-03-30/functions/f/triggers", """{"triggerName":"t","triggerType":"timer","triggerConfig":"{\"cronExpression\":\"@every 5m\"}"}""");
        await server.CallAsync("POST", "/2023-03-30/functions/f/invocations", "{}", headers: [("x-fc-invocation-type", "Async"), ("x-fc-async-task-id", "a")]);
        server.Platform.DeadLetters[$"{GatewayServer.Account}/f/a"] = DestinationTests.Dead("f", "a");
        foreach (var (path, schema) in new[]
        {
            ("/v1/webhooks/secret", "WebhookSecrets"), ("/v1/dead-letters", "DeadLetterPage"), ("/v1/functions/f/tasks/a/dead-letter", "DeadLetter"),
            ("/v1/topics", "TopicPage"), ("/v1/topics/t/messages", "TopicMessages"),
            ("/2023-03-30/functions/f", "Function"), ("/2023-03-30/functions/f/async-invoke-config", "AsyncConfig"), ("/2023-03-30/functions/f/async-tasks/a", "AsyncTask"),
            ("/2023-03-30/functions/f/triggers/t", "Trigger"), ("/v1/functions/f/triggers/t", "TriggerStatus"), ("/v1/quota", "Quota"),
            ("/2023-03-30/functions/f/provision-config", "ProvisionConfig"), ("/2023-03-30/functions/f/scaling-config", "ScalingConfigStatus"),
            ("/v1/audit", "AuditPage"),
        })
        {
            var names = (await server.CallAsync("GET", path)).Json.EnumerateObject().Select(property => property.Name);
            Assert.Empty(names.Except(Schemas.FieldsOf(schema).Select(field => field.Name)));
        }
    }

    [Fact]
    public async Task The_page_loads_nothing_from_elsewhere()
    {
        await using var server = await GatewayServer.StartAsync();
        var page = await server.CallAsync("GET", "/v1/openapi", key: "no-key-is-needed");
        Assert.Equal("text/html", page.ContentType);
        Assert.Contains("CreateFunction", page.Text, StringComparison.Ordinal);
        Assert.DoesNotMatch("(src|href)=\"?(https?:)?//", page.Text);
        Assert.Equal("default-src 'none'; style-src 'unsafe-inline'", page.Headers["Content-Security-Policy"]);
    }
}
