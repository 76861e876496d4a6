using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.OpenApi;

/// <summary>The OpenAPI document and a page to read it, both made from <see cref="ApiTable"/> and without anything from outside.</summary>
internal static class ApiDocument
{
    public static readonly byte[] Json = Encoding.UTF8.GetBytes(Document().ToJsonString());

    private static readonly byte[] Html = Encoding.UTF8.GetBytes(Page());

    public static void Map(IEndpointRouteBuilder v1)
    {
        v1.MapMethods("/openapi.json", ["GET"], http => WriteAsync(http, "application/json; charset=utf-8", Json));
        v1.MapMethods("/openapi", ["GET"], http =>
        {
            http.Response.Headers.ContentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'";
            return WriteAsync(http, "text/html; charset=utf-8", Html);
        });
    }

    private static Task WriteAsync(HttpContext http, string type, byte[] bytes)
    {
        http.Response.ContentType = type;
        http.Response.ContentLength = bytes.Length;
        return http.Response.Body.WriteAsync(bytes, http.RequestAborted).AsTask();
    }

    private static JsonObject Document()
    {
        var paths = new JsonObject();
        foreach (var group in ApiTable.Operations.GroupBy(operation => operation.Path))
        {
            var path = new JsonObject();
            foreach (var operation in group)
            {
                path[operation.Method.ToLowerInvariant()] = Operation(operation);
            }

            paths[group.Key.Replace("{**", "{", StringComparison.Ordinal)] = path;
        }

        return new JsonObject
        {
            ["openapi"] = "3.1.0",
            ["info"] = new JsonObject
            {
                ["title"] = "Orleans.GpuTasks",
                ["version"] = typeof(ApiDocument).Assembly.GetName().Version!.ToString(3),
                ["description"] = "Function Compute 3.0 operations for GPU functions under /2023-03-30, the platform's own under /v1, HTTP triggers under /http.",
            },
            ["security"] = new JsonArray(new JsonObject { ["bearer"] = new JsonArray() }, new JsonObject { ["signature"] = new JsonArray() }),
            ["paths"] = paths,
            ["components"] = new JsonObject
            {
                ["securitySchemes"] = new JsonObject
                {
                    ["bearer"] = new JsonObject { ["type"] = "http", ["scheme"] = "bearer", ["description"] = "An account's API key, or the operator key where an operation says so." },
                    ["signature"] = new JsonObject { ["type"] = "apiKey", ["in"] = "header", ["name"] = "Authorization", ["description"] = "ACS3-HMAC-SHA256 over the request, as SDKs sign; or the older 'acs' with HMAC-SHA1." },
                },
                ["schemas"] = Schemas.ToJson(),
            },
        };
    }

    private static JsonObject Operation(ApiOperation operation)
    {
        var json = new JsonObject
        {
            ["operationId"] = operation.Name,
            ["summary"] = operation.Summary,
            ["tags"] = new JsonArray(Tag(operation)),
        };
        var parameters = new JsonArray();
        foreach (var part in operation.Path.Split('{').Skip(1).Select(part => part[..part.IndexOf('}', StringComparison.Ordinal)]))
        {
            parameters.Add(Parameter(part, "path", "string", required: true));
        }

        foreach (var name in operation.Query.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = name.Split(':');
            parameters.Add(Parameter(parts[0], "query", parts.ElementAtOrDefault(1) ?? "string", required: false));
        }

        foreach (var name in operation.Headers.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            parameters.Add(Parameter(name, "header", "string", required: false));
        }

        if (parameters.Count > 0)
        {
            json["parameters"] = parameters;
        }

        if (operation.Body is { } body)
        {
            json["requestBody"] = new JsonObject { ["required"] = body != "bytes", ["content"] = Content(body) };
        }

        var success = new JsonObject { ["description"] = operation.Answer is null ? "Done." : "The answer." };
        if (operation.Answer is { } answer)
        {
            success["content"] = Content(answer);
        }

        json["responses"] = new JsonObject
        {
            [operation.Answer is null ? "204" : "200"] = success,
            ["default"] = new JsonObject { ["description"] = "An error of the contract.", ["content"] = Content("Error") },
        };
        return json;
    }

    private static string Tag(ApiOperation operation) => operation.Path.Split('/', StringSplitOptions.RemoveEmptyEntries)[0] switch
    {
        "2023-03-30" => "Function Compute 3.0",
        "v1" => "Platform",
        "http" => "HTTP triggers",
        _ => "Health",
    };

    private static JsonObject Parameter(string name, string place, string type, bool required) => new()
    {
        ["name"] = name.TrimStart('*'),
        ["in"] = place,
        ["required"] = required,
        ["schema"] = Schemas.TypeOf(type == "json" ? "string" : type),
    };

    private static JsonObject Content(string schema) => new()
    {
        [schema == "bytes" ? "application/octet-stream" : "application/json"] = new JsonObject { ["schema"] = Schemas.TypeOf(schema) },
    };

    private static string Page()
    {
        var page = new StringBuilder("""
            <!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Orleans.GpuTasks API</title>
            <style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}code{font-family:ui-monospace,monospace}
            summary{cursor:pointer;padding:.2rem 0}summary b{display:inline-block;width:4.5rem}table{border-collapse:collapse;margin:.3rem 0 1rem 1rem}td{border:1px solid #ccc;padding:.1rem .5rem;vertical-align:top}
            @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}td{border-color:#444}}</style>
            <h1>Orleans.GpuTasks</h1><p>The same as a document: <a href="openapi.json">openapi.json</a>. Errors everywhere: status 4xx or 5xx with <code>Code</code>, <code>Message</code>, <code>RequestId</code>.</p>
            """);
        foreach (var group in ApiTable.Operations.GroupBy(Tag))
        {
            page.Append("<h2>").Append(Text(group.Key)).Append("</h2>");
            foreach (var operation in group)
            {
                page.Append("<details><summary><b>").Append(operation.Method).Append("</b><code>").Append(Text(operation.Path)).Append("</code> ")
                    .Append(Text(operation.Name)).Append("</summary><p>").Append(Text(operation.Summary)).Append("</p><table>");
                Row(page, "query", operation.Query);
                Row(page, "headers", operation.Headers);
                page.Append(Link("body", operation.Body)).Append(Link("answer", operation.Answer)).Append("</table></details>");
            }
        }

        page.Append("<h2>Structures</h2>");
        foreach (var schema in Schemas.All.Values)
        {
            page.Append("<h3 id=\"").Append(schema.Name).Append("\">").Append(schema.Name).Append("</h3><table>");
            foreach (var field in Schemas.FieldsOf(schema.Name))
            {
                page.Append("<tr><td><code>").Append(field.Name).Append("</code>").Append(field.Required ? " *" : "").Append("<td>").Append(TypeLink(field.Type))
                    .Append("<td>").Append(Text(field.Text));
            }

            page.Append("</table>");
        }

        return page.Append("</html>").ToString();
    }

    private static void Row(StringBuilder page, string name, string value)
    {
        if (value.Length > 0)
        {
            page.Append("<tr><td>").Append(name).Append("<td><code>").Append(Text(value)).Append("</code>");
        }
    }

    private static string Link(string name, string? type) => type is null ? "" : $"<tr><td>{name}<td>{TypeLink(type)}";

    private static string TypeLink(string type) => Schemas.All.ContainsKey(type.Replace("[]", "", StringComparison.Ordinal))
        ? $"<a href=\"#{type.Replace("[]", "", StringComparison.Ordinal)}\">{type}</a>"
        : type;

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
